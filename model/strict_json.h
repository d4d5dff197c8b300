// JSON from untrusted text: bounded nesting, no duplicate names, one-line errors.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "core/status.h"

namespace thermocline {

// The document of `text`, whose outermost value must be an object. InvalidArgument naming `file`, and the
// limit where one is passed: nesting of 64, each name once in its object.
absl::StatusOr<nlohmann::json> ParseStrictJson(std::string_view text, const std::string& file);

}  // namespace thermocline
