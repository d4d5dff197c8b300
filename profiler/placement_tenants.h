// Tenants of an accelerator's memory that every token uses: they are placed before any neuron.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "profiler/placement_model.h"

namespace thermocline {

struct Tenants {
  std::vector<PlanDevice> devices;    // the CPU first; without neurons
  std::vector<int> attention_device;  // (n_layers), of attention and cache
  std::vector<int> predictor_device;  // (n_layers)
  std::vector<int64_t> free_bytes;    // (accelerators), what is left for neurons
  bool all_on_accelerators = false;
};

// Scratch on every accelerator, then predictors, attention and cache layer by layer, head. ResourceExhausted
// for a budget that scratch and one unit of neurons do not fit.
absl::StatusOr<Tenants> PlaceTenants(const PlacementProblem& problem);

// The dense split: scratch, then the first layers with attention, cache, predictor and every neuron, as many
// as fit, and behind the last layer the head. The errors are those of PlaceTenants.
struct WholeLayers {
  Tenants tenants;  // free_bytes: the neurons that were chosen are still to be taken from it
  LayerChoices choices;
};
absl::StatusOr<WholeLayers> PlaceWholeLayers(const PlacementProblem& problem);

}  // namespace thermocline
