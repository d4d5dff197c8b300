// ConversionState as JSON, and the fingerprint of a source.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion_state.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/mapped_file.h"
#include "core/replace_file.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

constexpr int64_t kMostStateBytes = 4096;

}  // namespace

std::string ConversionStatePath(const std::string& out) { return out + ".partial.json"; }

std::string SourceFingerprint(const Checkpoint& source) {
  constexpr size_t kSamples = 256, kSampleBytes = 4096;
  std::vector<const MappedFile*> files;
  for (const auto& file : source.tensors.files()) files.push_back(file.get());
  std::ranges::sort(files, {}, &MappedFile::path);
  std::string summary;
  std::vector<std::byte> samples;
  for (const MappedFile* file : files) {
    const std::span<const std::byte> bytes = file->bytes();
    const size_t step = std::max(bytes.size() / kSamples, kSampleBytes);
    samples.clear();
    for (size_t begin = 0; begin < bytes.size(); begin += step) {
      const auto sample = bytes.subspan(begin, std::min(kSampleBytes, bytes.size() - begin));
      samples.insert(samples.end(), sample.begin(), sample.end());
    }
    summary += fmt::format("{} {}\n", bytes.size(), Sha256Hex(samples));
  }
  return Sha256Hex(std::as_bytes(std::span(summary)));
}

absl::StatusOr<std::optional<ConversionState>> ReadConversionState(const std::string& out) {
  const std::string path = ConversionStatePath(out);
  const absl::StatusOr<std::string> text = ReadTextFile(path, kMostStateBytes);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  TC_RETURN_IF_ERROR(text.status());
  TC_ASSIGN_OR_RETURN(const nlohmann::json json, ParseStrictJson(*text, path));
  const auto is_text = [&](const char* name) { return json.contains(name) && json[name].is_string(); };
  if (!is_text("source") || !is_text("header") || !json.contains("tensors") ||
      !json["tensors"].is_number_unsigned()) {
    return InvalidArgument("{}: is not what a conversion leaves: source, header or tensors is missing", path);
  }
  return ConversionState{json["source"], json["header"], json["tensors"]};
}

absl::Status WriteConversionState(const std::string& out, const ConversionState& state) {
  const nlohmann::ordered_json json = {
      {"source", state.source}, {"header", state.header}, {"tensors", state.tensors}};
  return ReplaceFile(ConversionStatePath(out), json.dump() + "\n");
}

}  // namespace thermocline
