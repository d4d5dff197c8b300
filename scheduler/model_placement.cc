// From plans to placements.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/model_placement.h"

#include <algorithm>
#include <numeric>

namespace thermocline {

std::optional<int> LayerPlacement::only_device() const {
  const auto is_held = [](const auto& of_device) { return !of_device.empty(); };
  const auto held = std::ranges::find_if(neurons, is_held);
  if (std::ranges::count_if(neurons, is_held) != 1) return std::nullopt;
  return static_cast<int>(held - neurons.begin());
}

ModelPlacement PlaceOnCpu(const ModelConfig& config) {
  std::vector<uint32_t> all(static_cast<size_t>(config.d_ff));
  std::iota(all.begin(), all.end(), 0u);
  ModelPlacement placement;
  placement.layers.assign(static_cast<size_t>(config.n_layers), {.neurons = {all}});
  return placement;
}

absl::StatusOr<ModelPlacement> PlacementOf(const Plan& plan, const ModelConfig& config) {
  if (static_cast<int64_t>(plan.layers.size()) != config.n_layers) {
    return InvalidArgument("the plan has {} layers, the model {}", plan.layers.size(), config.n_layers);
  }
  ModelPlacement placement{.n_devices = static_cast<int>(plan.devices.size())};
  for (size_t d = 1; d < plan.devices.size(); ++d)
    if (plan.devices[d].head_bytes > 0) placement.head_device = static_cast<int>(d);
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const PlanLayer& from = plan.layers[l];
    if (from.kv_cache_device != from.attention_device) {
      return InvalidArgument(
          "the plan keeps layer {}'s keys and values on device {} and its attention on {}; they belong "
          "together",
          l, from.kv_cache_device, from.attention_device);
    }
    LayerPlacement& to = placement.layers.emplace_back();
    to.attention_device = from.attention_device;
    to.predictor_device = from.predictor_device;
    to.neurons.resize(plan.devices.size());
    size_t placed = 0;
    for (const PlanUnit& unit : from.units) {
      auto& neurons = to.neurons[static_cast<size_t>(unit.device)];
      neurons.insert(neurons.end(), unit.neurons.begin(), unit.neurons.end());
      placed += unit.neurons.size();
    }
    for (auto& neurons : to.neurons) std::ranges::sort(neurons);
    if (placed != static_cast<size_t>(config.d_ff)) {
      return InvalidArgument("the plan places {} neurons of layer {}, the model has {}", placed, l,
                             config.d_ff);
    }
  }
  return placement;
}

}  // namespace thermocline
