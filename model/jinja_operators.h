// Arithmetic, slices and ranges of values.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/status.h"
#include "model/jinja_builtins.h"
#include "model/jinja_value.h"

namespace thermocline {

// Python's + - * / // % of numbers, and + of two strings or two lists. FailedPrecondition for anything else,
// for a division by 0, and for integers beyond 64 bits.
absl::StatusOr<JinjaValue> JinjaArithmetic(std::string_view operation, const JinjaValue& left,
                                           const JinjaValue& right, JinjaBudget& budget);

// Python's object[start:stop:step] of lists and strings.
absl::StatusOr<JinjaValue> JinjaSlice(const JinjaValue& object, std::optional<int64_t> start,
                                      std::optional<int64_t> stop, int64_t step, JinjaBudget& budget);

// Python's range(stop), range(start, stop), range(start, stop, step), as a list.
absl::StatusOr<JinjaValue> JinjaRange(const JinjaCall& call, JinjaBudget& budget);

}  // namespace thermocline
