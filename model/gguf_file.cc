// GgufFile::Open: maps a GGUF file, or all parts of a split one.
// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_file.h"

#include <algorithm>

namespace thermocline {
namespace {

constexpr std::string_view kSplitCount = "split.count";
constexpr std::string_view kSplitNumber = "split.no";
constexpr std::string_view kSplitTensors = "split.tensors.count";
constexpr uint64_t kMostParts = 99999;  // the names have five digits

std::string PartSuffix(uint64_t number, uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number, count);
}

absl::StatusOr<GgufFile> OpenPart(const std::string& path) {
  TC_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  TC_ASSIGN_OR_RETURN(GgufFile gguf, GgufFile::Parse(mapped.bytes(), path));
  gguf.tensors.Keep(std::move(mapped));
  return gguf;
}

// The number of parts; 1 for a file that is not split.
absl::StatusOr<uint64_t> PartCount(const GgufMetadata& metadata) {
  if (!metadata.Has(kSplitCount)) return 1;
  TC_ASSIGN_OR_RETURN(const uint64_t count, metadata.Uint(kSplitCount));
  if (count > kMostParts) {
    return InvalidArgument("{}: {} is {}, the limit is {}", metadata.file(), kSplitCount, count, kMostParts);
  }
  return std::max<uint64_t>(count, 1);
}

absl::Status CheckPart(const GgufMetadata& metadata, uint64_t number, uint64_t count) {
  TC_ASSIGN_OR_RETURN(const uint64_t found_count, PartCount(metadata));
  if (found_count != count) {
    return InvalidArgument("{}: {} is {}, the first part says {}", metadata.file(), kSplitCount, found_count,
                           count);
  }
  TC_ASSIGN_OR_RETURN(const uint64_t found_number, metadata.Uint(kSplitNumber));
  if (found_number != number) {
    return InvalidArgument("{}: {} is {}, expected {}{}", metadata.file(), kSplitNumber, found_number, number,
                           number == 0 ? " (give the first part)" : "");
  }
  return absl::OkStatus();
}

absl::Status AddParts(const std::string& path, uint64_t count, GgufFile& first) {
  TC_RETURN_IF_ERROR(CheckPart(first.metadata, 0, count));
  const std::string suffix = PartSuffix(1, count);
  if (!path.ends_with(suffix)) {
    return InvalidArgument("{}: {} is {}, so the file's name must end in '{}'", path, kSplitCount, count,
                           suffix);
  }
  const std::string stem = path.substr(0, path.size() - suffix.size());
  for (uint64_t number = 1; number < count; ++number) {
    TC_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(stem + PartSuffix(number + 1, count)));
    TC_ASSIGN_OR_RETURN(const GgufFile part, GgufFile::Parse(mapped.bytes(), mapped.path()));
    TC_RETURN_IF_ERROR(CheckPart(part.metadata, number, count));
    for (const TensorInfo& tensor : part.tensors.tensors()) TC_RETURN_IF_ERROR(first.tensors.Add(tensor));
    first.tensors.Keep(std::move(mapped));
  }
  if (!first.metadata.Has(kSplitTensors)) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(const uint64_t tensors, first.metadata.Uint(kSplitTensors));
  if (tensors != first.tensors.tensors().size()) {
    return InvalidArgument("{}: {} is {}, the {} parts hold {}", path, kSplitTensors, tensors, count,
                           first.tensors.tensors().size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<GgufFile> GgufFile::Open(const std::string& path) {
  TC_ASSIGN_OR_RETURN(GgufFile gguf, OpenPart(path));
  TC_ASSIGN_OR_RETURN(const uint64_t count, PartCount(gguf.metadata));
  if (count > 1) TC_RETURN_IF_ERROR(AddParts(path, count, gguf));
  return gguf;
}

}  // namespace thermocline
