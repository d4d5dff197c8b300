// ChoosePlacement: hot and cold neurons, or whole layers where choosing neurons would not pay.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/status.h"
#include "model/plan.h"
#include "profiler/placement.h"

namespace thermocline {

// Hot and cold neurons must be expected to be this many times as fast as whole layers, else a plan is made by
// layer: measured speeds of one plan differ by as much from run to run (docs/placement.md).
inline constexpr double kLeastGainOfNeurons = 1.05;

// SolvePlacement's plan; or PlanWholeLayers', with prediction.by_layer saying why in a sentence with its
// figures, where every token reads every neuron, where whole layers were asked for (objective kLayers), or
// (objective kLatency) where the solved plan is not expected to be kLeastGainOfNeurons times as fast. Of that
// the solved plan is one of the alternatives, and prediction.gap what it is expected to be faster by. The
// errors are those of SolvePlacement.
absl::StatusOr<Plan> ChoosePlacement(const PlacementProblem& problem);

}  // namespace thermocline
