// GgufMetadata: keys added once, and typed access.
// SPDX-License-Identifier: Apache-2.0
#include <absl/strings/string_view.h>

#include "model/gguf_file.h"
#include "model/printable.h"

namespace thermocline {
namespace {

// In the order of GgufMetadata::Value.
constexpr std::string_view kTypeNames[] = {"a boolean",
                                           "an unsigned integer",
                                           "a signed integer",
                                           "a float",
                                           "a string",
                                           "an array of booleans",
                                           "an array of unsigned integers",
                                           "an array of signed integers",
                                           "an array of floats",
                                           "an array of strings"};
static_assert(std::size(kTypeNames) == std::variant_size_v<GgufMetadata::Value>);

absl::StatusOr<const GgufMetadata::Value*> Require(const GgufMetadata& metadata, std::string_view key) {
  const GgufMetadata::Value* value = metadata.Find(key);
  if (value == nullptr) return NotFound("{}: metadata key '{}' is missing", metadata.file(), key);
  return value;
}

absl::Status WrongType(const GgufMetadata& metadata, std::string_view key, std::string_view wanted,
                       const GgufMetadata::Value& found) {
  return InvalidArgument("{}: metadata key '{}' must be {}, found {}", metadata.file(), key, wanted,
                         kTypeNames[found.index()]);
}

}  // namespace

absl::Status GgufMetadata::Add(std::string_view key, Value value, std::span<const std::byte> raw) {
  if (key.empty()) return InvalidArgument("{}: a metadata key is empty, the least length is 1", file_);
  if (!values_.try_emplace(std::string(key), std::move(value)).second) {
    return InvalidArgument("{}: metadata key '{}' is given twice, the limit is once", file_, Printable(key));
  }
  if (!raw.empty()) raw_pairs_.push_back({key, raw});
  return absl::OkStatus();
}

const GgufMetadata::Value* GgufMetadata::Find(std::string_view key) const {
  const auto found = values_.find(absl::string_view(key.data(), key.size()));
  return found == values_.end() ? nullptr : &found->second;
}

absl::StatusOr<uint64_t> GgufMetadata::Uint(std::string_view key) const {
  TC_ASSIGN_OR_RETURN(const Value* value, Require(*this, key));
  if (const auto* number = std::get_if<uint64_t>(value)) return *number;
  if (const auto* number = std::get_if<int64_t>(value)) {
    if (*number < 0) {
      return InvalidArgument("{}: metadata key '{}' is {}, the least is 0", file_, key, *number);
    }
    return static_cast<uint64_t>(*number);
  }
  return WrongType(*this, key, "an unsigned integer", *value);
}

absl::StatusOr<double> GgufMetadata::Float(std::string_view key) const {
  TC_ASSIGN_OR_RETURN(const Value* value, Require(*this, key));
  if (const auto* number = std::get_if<double>(value)) return *number;
  return WrongType(*this, key, "a float", *value);
}

absl::StatusOr<bool> GgufMetadata::Bool(std::string_view key) const {
  TC_ASSIGN_OR_RETURN(const Value* value, Require(*this, key));
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  return WrongType(*this, key, "a boolean", *value);
}

absl::StatusOr<std::string_view> GgufMetadata::String(std::string_view key) const {
  TC_ASSIGN_OR_RETURN(const Value* value, Require(*this, key));
  if (const auto* text = std::get_if<std::string_view>(value)) return *text;
  return WrongType(*this, key, "a string", *value);
}

absl::StatusOr<const std::vector<std::string_view>*> GgufMetadata::Strings(std::string_view key) const {
  TC_ASSIGN_OR_RETURN(const Value* value, Require(*this, key));
  if (const auto* texts = std::get_if<std::vector<std::string_view>>(value)) return texts;
  return WrongType(*this, key, "an array of strings", *value);
}

absl::StatusOr<std::vector<float>> GgufMetadata::Floats(std::string_view key) const {
  TC_ASSIGN_OR_RETURN(const Value* value, Require(*this, key));
  const auto* numbers = std::get_if<std::vector<double>>(value);
  if (numbers == nullptr) return WrongType(*this, key, "an array of floats", *value);
  std::vector<float> floats;
  floats.reserve(numbers->size());
  for (const double number : *numbers) floats.push_back(static_cast<float>(number));
  return floats;
}

absl::StatusOr<std::vector<int64_t>> GgufMetadata::Ints(std::string_view key) const {
  TC_ASSIGN_OR_RETURN(const Value* value, Require(*this, key));
  if (const auto* numbers = std::get_if<std::vector<int64_t>>(value)) return *numbers;
  const auto* numbers = std::get_if<std::vector<uint64_t>>(value);
  if (numbers == nullptr) return WrongType(*this, key, "an array of integers", *value);
  std::vector<int64_t> integers;
  integers.reserve(numbers->size());
  for (size_t i = 0; i < numbers->size(); ++i) {
    const uint64_t number = (*numbers)[i];
    if (number > static_cast<uint64_t>(INT64_MAX)) {
      return InvalidArgument("{}: element {} of metadata key '{}' is {}, the limit is {}", file_, i, key,
                             number, INT64_MAX);
    }
    integers.push_back(static_cast<int64_t>(number));
  }
  return integers;
}

}  // namespace thermocline
