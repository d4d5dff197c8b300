// Density-1 tenants, placed in their order.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_tenants.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace thermocline {
namespace {

// Splits the layers into runs, one an accelerator, as long as their budgets are large.
class Homes {
 public:
  explicit Homes(const PlacementProblem& problem) : n_layers_(static_cast<double>(problem.layers.size())) {
    double sum = 0;
    for (const PlacementDevice& device : problem.accelerators) {
      sum += static_cast<double>(device.budget_bytes);
      ends_.push_back(sum);
    }
  }
  size_t Of(size_t layer) const {
    const double place = (static_cast<double>(layer) + 0.5) / n_layers_ * ends_.back();
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), place);
    return std::min(static_cast<size_t>(end - ends_.begin()), ends_.size() - 1);
  }

 private:
  double n_layers_;
  std::vector<double> ends_;
};

// The preferred accelerator if the bytes fit there, else the first where they do; they are taken. 0: none.
int Take(std::vector<int64_t>& free_bytes, size_t preferred, int64_t bytes) {
  size_t chosen = preferred;
  if (free_bytes[preferred] < bytes) {
    const auto fits =
        std::find_if(free_bytes.begin(), free_bytes.end(), [&](int64_t f) { return f >= bytes; });
    if (fits == free_bytes.end()) return 0;
    chosen = static_cast<size_t>(fits - free_bytes.begin());
  }
  free_bytes[chosen] -= bytes;
  return static_cast<int>(chosen) + 1;
}

int64_t SmallestUnitBytes(const PlacementProblem& problem) {
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const PlacementLayer& layer : problem.layers) least = std::min(least, layer.neuron_bytes);
  return least * std::min<int64_t>(problem.group_neurons, std::ssize(problem.layers[0].frequency));
}

int64_t WholeModelBytes(const PlacementProblem& problem) {
  int64_t bytes = problem.scratch_bytes + problem.head_bytes;
  for (const PlacementLayer& layer : problem.layers) {
    bytes += layer.attention_bytes + layer.kv_cache_bytes + layer.predictor_bytes +
             std::ssize(layer.frequency) * layer.neuron_bytes;
  }
  return bytes;
}

// Scratch alone.
absl::StatusOr<Tenants> EmptyAccelerators(const PlacementProblem& problem) {
  const size_t n_layers = problem.layers.size();
  Tenants tenants;
  tenants.devices.push_back({.name = "cpu", .kind = DeviceKind::kCpu});
  tenants.attention_device.assign(n_layers, 0);
  tenants.predictor_device.assign(n_layers, 0);
  const int64_t least_bytes = problem.scratch_bytes + SmallestUnitBytes(problem);
  for (const PlacementDevice& device : problem.accelerators) {
    if (device.budget_bytes < least_bytes) {
      return ResourceExhausted(
          "{}: the budget is {} bytes; scratch ({} bytes) and one unit of neurons need {}, the whole model "
          "{}",
          device.name, device.budget_bytes, problem.scratch_bytes, least_bytes, WholeModelBytes(problem));
    }
    tenants.devices.push_back({.name = device.name,
                               .kind = device.kind,
                               .budget_bytes = device.budget_bytes,
                               .scratch_bytes = problem.scratch_bytes});
    tenants.free_bytes.push_back(device.budget_bytes - problem.scratch_bytes);
  }
  tenants.all_on_accelerators = !problem.accelerators.empty();
  return tenants;
}

void AddAttention(const PlacementLayer& layer, PlanDevice& device) {
  device.attention_bytes += layer.attention_bytes;
  device.kv_cache_bytes += layer.kv_cache_bytes;
}

}  // namespace

absl::StatusOr<Tenants> PlaceTenants(const PlacementProblem& problem) {
  const size_t n_layers = problem.layers.size();
  TC_ASSIGN_OR_RETURN(Tenants tenants, EmptyAccelerators(problem));
  const bool some = !problem.accelerators.empty();
  const Homes homes(problem);
  const auto place = [&](size_t preferred, int64_t bytes) {
    const int device = some ? Take(tenants.free_bytes, preferred, bytes) : 0;
    if (device == 0 && bytes > 0) tenants.all_on_accelerators = false;
    return device;
  };
  for (size_t l = 0; l < n_layers; ++l) {
    const int64_t bytes = problem.layers[l].predictor_bytes;
    tenants.predictor_device[l] = place(some ? homes.Of(l) : 0, bytes);
    tenants.devices[tenants.predictor_device[l]].predictor_bytes += bytes;
  }
  bool fits = some;  // the first layer that does not fit ends the run
  for (size_t l = 0; l < n_layers; ++l) {
    const PlacementLayer& layer = problem.layers[l];
    int device = 0;
    if (fits) device = place(homes.Of(l), layer.attention_bytes + layer.kv_cache_bytes);
    fits = device > 0;
    tenants.attention_device[l] = device;
    AddAttention(layer, tenants.devices[device]);
  }
  const size_t last = some ? homes.Of(n_layers - 1) : 0;
  tenants.devices[place(last, problem.head_bytes)].head_bytes = problem.head_bytes;
  return tenants;
}

absl::StatusOr<WholeLayers> PlaceWholeLayers(const PlacementProblem& problem) {
  TC_ASSIGN_OR_RETURN(Tenants tenants, EmptyAccelerators(problem));
  std::vector<int64_t> left = tenants.free_bytes;
  LayerChoices choices(problem.layers.size());
  size_t accelerator = 0;  // layers fill them in order
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    const PlacementLayer& layer = problem.layers[l];
    const int64_t tenant_bytes = layer.attention_bytes + layer.kv_cache_bytes + layer.predictor_bytes;
    const auto n_neurons = std::ssize(layer.frequency);
    const int64_t bytes = tenant_bytes + n_neurons * layer.neuron_bytes;
    while (accelerator < left.size() && left[accelerator] < bytes) ++accelerator;
    int device = 0;
    if (accelerator < left.size()) {
      device = static_cast<int>(accelerator) + 1;
      left[accelerator] -= bytes;
      tenants.free_bytes[accelerator] -= tenant_bytes;
      choices[l] = {device, n_neurons};
    } else {
      tenants.all_on_accelerators = false;
    }
    tenants.attention_device[l] = tenants.predictor_device[l] = device;
    tenants.devices[device].predictor_bytes += layer.predictor_bytes;
    AddAttention(layer, tenants.devices[device]);
  }
  const bool head_fits = accelerator < left.size() && left[accelerator] >= problem.head_bytes;
  if (head_fits) tenants.free_bytes[accelerator] -= problem.head_bytes;
  tenants.all_on_accelerators = tenants.all_on_accelerators && head_fits;
  tenants.devices[head_fits ? accelerator + 1 : 0].head_bytes = problem.head_bytes;
  return WholeLayers{std::move(tenants), std::move(choices)};
}

}  // namespace thermocline
