// OpenSafetensorsFolder: maps the weight file of a Hugging Face folder, or all its shards.
// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include <filesystem>
#include <map>
#include <set>

#include "model/printable.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

constexpr int64_t kMostIndexBytes = int64_t{64} << 20;

absl::Status AddFile(const std::string& path, TensorTable& table) {
  TC_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(path));
  TC_RETURN_IF_ERROR(ParseSafetensors(mapped.bytes(), path, table));
  table.Keep(std::move(mapped));
  return absl::OkStatus();
}

// A plain name in the same folder; anything with a separator could lead out of it.
bool IsPlainFileName(std::string_view name) {
  return name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

// Tensor name to shard name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kMostIndexBytes));
  TC_ASSIGN_OR_RETURN(const nlohmann::json index, ParseStrictJson(text, path));
  const auto weights = index.find("weight_map");
  if (weights == index.end() || !weights->is_object() || weights->empty()) {
    return InvalidArgument("{}: weight_map must be an object with one tensor at least", path);
  }
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : weights->items()) {
    if (!shard.is_string()) {
      return InvalidArgument("{}: weight_map '{}' must be a string, found {}", path, Printable(tensor),
                             shard.type_name());
    }
    const auto& name = shard.get_ref<const std::string&>();
    if (!IsPlainFileName(name)) {
      return InvalidArgument(
          "{}: weight_map '{}' names '{}', the limit is a .safetensors file in the same folder, without a "
          "path",
          path, Printable(tensor), Printable(name));
    }
    shards.emplace(tensor, name);
  }
  return shards;
}

}  // namespace

absl::StatusOr<TensorTable> OpenSafetensorsFolder(const std::string& folder) {
  const std::string single = folder + "/model.safetensors";
  const std::string index = single + ".index.json";
  TensorTable table(folder);
  std::error_code ignored;
  if (std::filesystem::exists(single, ignored)) {
    TC_RETURN_IF_ERROR(AddFile(single, table));
    return table;
  }
  if (!std::filesystem::exists(index, ignored)) {
    return NotFound("{}: neither model.safetensors nor model.safetensors.index.json is there", folder);
  }
  TC_ASSIGN_OR_RETURN(const auto shard_of, ReadIndex(index));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
  for (const std::string& shard : shards) TC_RETURN_IF_ERROR(AddFile(folder + "/" + shard, table));
  for (const auto& [tensor, shard] : shard_of) {
    if (!table.Contains(tensor)) {
      return NotFound("{}: tensor '{}' is not in {}", index, Printable(tensor), shard);
    }
  }
  return table;
}

}  // namespace thermocline
