// ModelPlacement: a plan as the executor needs it: for every layer, which device does what.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/status.h"
#include "model/config.h"
#include "model/plan.h"

namespace thermocline {

struct LayerPlacement {
  int attention_device = 0;
  int predictor_device = 0;
  std::vector<std::vector<uint32_t>> neurons;  // (devices), each ascending; together every neuron once

  bool has_neurons(int device) const { return !neurons[static_cast<size_t>(device)].empty(); }
  // That holds all of them; nullopt: several hold some.
  std::optional<int> only_device() const;
};

struct ModelPlacement {
  int n_devices = 1;
  int head_device = 0;
  std::vector<LayerPlacement> layers;
};

// Everything on the CPU.
ModelPlacement PlaceOnCpu(const ModelConfig& config);

// InvalidArgument when the plan is not of the model's shape or keeps a layer's keys and values apart from its
// attention.
absl::StatusOr<ModelPlacement> PlacementOf(const Plan& plan, const ModelConfig& config);

}  // namespace thermocline
