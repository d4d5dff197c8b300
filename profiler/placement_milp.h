// The placement program: one choice a layer under the accelerators' memory, solved by COIN-OR CBC.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/status.h"
#include "profiler/placement_model.h"

namespace thermocline {

struct MilpResult {
  LayerChoices choices;
  double bound = 0;  // no choices of the program cost less
};

// The cheapest choices among group borders, range borders and the balance points; never dearer than any of
// `starts`, which must fit the memory. Single-threaded and seeded: the same result for the same model unless
// the time limit cuts it short. Internal when CBC fails.
absl::StatusOr<MilpResult> SolveMilp(const PlacementModel& model, const std::vector<LayerChoices>& starts);

}  // namespace thermocline
