// Typed access to the fields of a JSON object.
// SPDX-License-Identifier: Apache-2.0
#include "server/json_fields.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/printable.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

// Scalars as they are, containers by their kind: they may be long.
std::string Describe(const Json& value) {
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  return Printable(value.dump());
}

}  // namespace

absl::Status TypeError(std::string_view field, const Json& found, std::string_view needed) {
  return FieldError(field, fmt::format("is {}, {} is needed", Describe(found), needed));
}

std::optional<int64_t> WholeNumber(const Json& value) {
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  // Doubles count whole numbers without gaps up to here.
  constexpr double kLargest = 9007199254740992.0;
  const double number = value.get<double>();
  if (!(std::abs(number) <= kLargest) || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

JsonFields::JsonFields(const Json& object, std::string prefix)
    : object_(object), prefix_(std::move(prefix)) {}

const Json* JsonFields::Find(std::string_view name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

absl::Status JsonFields::Read(std::string_view name, bool& target) const {
  const Json* const value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_boolean()) return TypeError(NameOf(name), *value, "true or false");
  target = value->get<bool>();
  return absl::OkStatus();
}

absl::Status JsonFields::Read(std::string_view name, double& target) const {
  const Json* const value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_number()) return TypeError(NameOf(name), *value, "a number");
  target = value->get<double>();
  return absl::OkStatus();
}

absl::Status JsonFields::Read(std::string_view name, std::string& target) const {
  const Json* const value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_string()) return TypeError(NameOf(name), *value, "a string");
  target = value->get_ref<const std::string&>();
  return absl::OkStatus();
}

absl::Status JsonFields::Read(std::string_view name, std::optional<int64_t>& target) const {
  const Json* const value = Find(name);
  if (value == nullptr) return absl::OkStatus();
  const std::optional<int64_t> number = WholeNumber(*value);
  if (!number) return TypeError(NameOf(name), *value, "a whole number of 64 bits");
  target = number;
  return absl::OkStatus();
}

absl::Status JsonFields::Read(std::string_view name, int64_t& target) const {
  std::optional<int64_t> number;
  TC_RETURN_IF_ERROR(Read(name, number));
  target = number.value_or(target);
  return absl::OkStatus();
}

}  // namespace thermocline
