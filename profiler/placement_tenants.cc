// Density-1 tenants, placed in their order.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_tenants.h"

#include <algorithm>
#include <limits>

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

}  // namespace

absl::StatusOr<Tenants> PlaceTenants(const PlacementProblem& problem) {
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
  const bool some = !problem.accelerators.empty();
  const Homes homes(problem);
  tenants.all_on_accelerators = some;
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
    tenants.devices[device].attention_bytes += layer.attention_bytes;
    tenants.devices[device].kv_cache_bytes += layer.kv_cache_bytes;
  }
  const size_t last = some ? homes.Of(n_layers - 1) : 0;
  tenants.devices[place(last, problem.head_bytes)].head_bytes = problem.head_bytes;
  return tenants;
}

}  // namespace thermocline
