// What is said of a plan: its coverage and what keeps it from being faster.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "profiler/placement_model.h"
#include "profiler/placement_tenants.h"

namespace thermocline {

// Share of activations that fall on hot neurons; 0 without any activation or, for held-out text, without any.
double Coverage(const PlacementModel& model, const LayerChoices& choices);
double HeldOutCoverage(const PlacementModel& model, const LayerChoices& choices);

// "nothing", "memory", "gpu bandwidth" or "synchronisation"; docs/placement.md says how it is decided.
std::string BindingConstraint(const PlacementModel& model, const Tenants& tenants,
                              const LayerChoices& choices);

}  // namespace thermocline
