// Quality: the dial of a request between the dense model's answer and speed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/status.h"

namespace thermocline {

// What a token's feed-forward blocks leave out. With thresholds kExact is dense and the other two are the
// same: what is below them.
enum class Quality {
  kExact,     // nothing: every gate is computed, then only what fired
  kBalanced,  // what the predictors miss at the recall they were calibrated for
  kFast,      // more: a lower recall, fewer neurons
};

std::string_view NameOf(Quality quality);  // "exact", "balanced", "fast"
// InvalidArgument listing the known names for any other.
absl::StatusOr<Quality> ParseQuality(std::string_view name);

}  // namespace thermocline
