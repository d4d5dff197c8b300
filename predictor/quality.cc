// Names of qualities.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/quality.h"

namespace thermocline {

std::string_view NameOf(Quality quality) {
  switch (quality) {
    case Quality::kExact:
      return "exact";
    case Quality::kBalanced:
      return "balanced";
    case Quality::kFast:
      return "fast";
  }
  TC_CHECK(false);
}

absl::StatusOr<Quality> ParseQuality(std::string_view name) {
  for (const Quality quality : {Quality::kExact, Quality::kBalanced, Quality::kFast})
    if (NameOf(quality) == name) return quality;
  return InvalidArgument("quality '{}' is unknown; known are exact, balanced, fast", name);
}

}  // namespace thermocline
