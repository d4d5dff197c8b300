// JsonFields: typed access to the fields of a JSON object from a client, with errors that name the field.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/status.h"

namespace thermocline {

// A FieldError that says what was found and what is needed: "temperature: is \"hot\", a number is needed".
absl::Status TypeError(std::string_view field, const nlohmann::json& found, std::string_view needed);

// Absent and null are the same. Read() leaves its target alone then; a value of another type is a FieldError.
class JsonFields {
 public:
  // Borrows the object. `prefix` comes before names in errors: "messages[2].".
  explicit JsonFields(const nlohmann::json& object, std::string prefix = "");

  const nlohmann::json* Find(std::string_view name) const;  // nullptr when absent or null
  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  std::string NameOf(std::string_view name) const { return prefix_ + std::string(name); }

  absl::Status Read(std::string_view name, bool& target) const;
  absl::Status Read(std::string_view name, double& target) const;
  absl::Status Read(std::string_view name, std::string& target) const;
  // Whole numbers, also those written as 16.0, of 64 bits.
  absl::Status Read(std::string_view name, int64_t& target) const;
  absl::Status Read(std::string_view name, std::optional<int64_t>& target) const;

 private:
  const nlohmann::json& object_;
  const std::string prefix_;
};

// The whole number, if it is one of 64 bits with a sign.
std::optional<int64_t> WholeNumber(const nlohmann::json& value);

}  // namespace thermocline
