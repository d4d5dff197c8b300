// DescribeActivity: when a neuron counts as active in a profile, as people and programs read it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "model/activation_profile.h"

namespace thermocline {

struct ActivityRule {
  std::string_view name;  // "not zero", "magnitude"
  std::string text;       // goes on "a neuron is active when"
};

// By the profile's activation and threshold; docs/models.md has the rule of every activation.
ActivityRule DescribeActivity(const ActivationProfile& profile);

}  // namespace thermocline
