// The rule in words.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/activity_rule.h"

namespace thermocline {

ActivityRule DescribeActivity(const ActivationProfile& profile) {
  if (profile.threshold > 0) {
    return {"magnitude", fmt::format("the magnitude of its activation is above {}", profile.threshold)};
  }
  const auto activation = ParseActivation(profile.activation);
  if (activation.ok() && !HasTrueZeros(*activation)) {
    return {"not zero",
            fmt::format("its activation is not exactly zero, which for {} is always but for rounding "
                        "(--threshold counts by magnitude)",
                        profile.activation)};
  }
  if (activation.ok() && *activation == Activation::kDRelu)
    return {"not zero", "its gate fires, whether the up product is positive or not"};
  return {"not zero", "its activation is not zero"};
}

}  // namespace thermocline
