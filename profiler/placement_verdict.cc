// Coverage, binding constraint and expected speed.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_verdict.h"

#include <algorithm>
#include <limits>

namespace thermocline {
namespace {

constexpr int64_t kNearlyFullDivisor = 20;  // 95 % used

// Expected time of one more neuron of the layer on the CPU, the border's: counts cannot come closer than that
// to a balance.
double NeuronSeconds(const PlacementModel& model, int layer, int64_t rank) {
  const int64_t last = model.n_neurons() - 1;
  const int64_t at = std::clamp<int64_t>(rank, 0, last);
  return (model.HotLoad(layer, at + 1) - model.HotLoad(layer, at)) /
         (model.problem().cpu_gb_per_second * 1e9);
}

// Least time of the layer if memory were unlimited. Time falls until the balance point and rises behind it.
double UnlimitedSeconds(const PlacementModel& model, int layer) {
  double best = model.Seconds(layer, {});
  for (int device = 1; device < model.n_devices(); ++device) {
    best = std::min(best, model.Seconds(layer, {device, model.n_neurons()}));
    const SplitRange range = model.split_range(layer, device);
    if (range.least > range.most) continue;
    const int64_t balance = model.BalancePoint(layer, device);
    for (const int64_t hot : {balance - 1, balance}) {
      best = std::min(best, model.Seconds(layer, {device, std::clamp(hot, range.least, range.most)}));
    }
  }
  return best;
}

// Whether no accelerator has room for one more group of a layer with cold neurons, or all are nearly full.
bool IsFull(const PlacementModel& model, const LayerChoices& choices) {
  int64_t unit_bytes = std::numeric_limits<int64_t>::max();
  for (int l = 0; l < model.n_layers(); ++l) {
    const int64_t cold = model.n_neurons() - choices[l].hot;
    if (cold == 0) continue;
    unit_bytes = std::min(unit_bytes, std::min(cold, model.problem().group_neurons) * model.neuron_bytes(l));
  }
  const std::vector<int64_t> left = model.Left(choices);
  for (size_t i = 0; i < left.size(); ++i) {
    const int64_t nearly_full = model.problem().accelerators[i].budget_bytes / kNearlyFullDivisor;
    if (left[i] >= std::max(unit_bytes, nearly_full)) return false;
  }
  return true;
}

}  // namespace

double Coverage(const PlacementModel& model, const LayerChoices& choices) {
  double hot = 0, all = 0;
  for (int l = 0; l < model.n_layers(); ++l) {
    hot += model.Impact(l, choices[l].hot);
    all += model.Impact(l, model.n_neurons());
  }
  return all > 0 ? hot / all : 0;
}

double HeldOutCoverage(const PlacementModel& model, const LayerChoices& choices) {
  double hot = 0, all = 0;
  for (int l = 0; l < model.n_layers(); ++l) {
    const std::vector<double>& frequency = model.problem().layers[l].held_out_frequency;
    if (frequency.empty()) return 0;
    for (int64_t rank = 0; rank < model.n_neurons(); ++rank) {
      const double f = frequency[model.order(l)[rank]];
      all += f;
      if (rank < choices[l].hot) hot += f;
    }
  }
  return all > 0 ? hot / all : 0;
}

std::string BindingConstraint(const PlacementModel& model, const Tenants& tenants,
                              const LayerChoices& choices) {
  const bool all_hot = std::all_of(choices.begin(), choices.end(), [&](const LayerChoice& choice) {
    return choice.hot == model.n_neurons();
  });
  if (all_hot) return tenants.all_on_accelerators ? "nothing" : "memory";
  if (!tenants.all_on_accelerators || model.problem().objective == PlacementObjective::kLayers)
    return "memory";
  const bool full = IsFull(model, choices);
  if (model.problem().objective == PlacementObjective::kImpact) return full ? "memory" : "synchronisation";

  bool at_best = true;
  double balanced_load = 0, unsplit_load = 0;  // cold, of layers that more memory would not speed up
  for (int l = 0; l < model.n_layers(); ++l) {
    const LayerChoice& choice = choices[l];
    const double slack = NeuronSeconds(model, l, choice.hot) * (1 + 1e-9);
    if (model.Seconds(l, choice) > UnlimitedSeconds(model, l) + slack) at_best = false;
    const bool balanced =
        choice.hot > 0 && model.HotSeconds(l, choice) + slack >= model.ColdSeconds(l, choice);
    (balanced ? balanced_load : unsplit_load) += model.ColdLoad(l, choice.hot);
  }
  if (!at_best) return full ? "memory" : "synchronisation";
  return balanced_load >= unsplit_load ? "gpu bandwidth" : "synchronisation";
}

double PredictTokensPerSecond(const PlacementProblem& problem, const Plan& plan) {
  TC_CHECK(plan.devices.size() == problem.accelerators.size() + 1);
  TC_CHECK(plan.layers.size() == problem.layers.size());
  std::vector<double> bytes_per_second = {problem.cpu_gb_per_second * 1e9};
  for (const PlacementDevice& device : problem.accelerators) {
    bytes_per_second.push_back(device.gb_per_second * 1e9);
  }
  const bool dense = problem.objective == PlacementObjective::kLayers || !problem.reads_all_because.empty();
  double seconds = 0;
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const PlanDevice& device = plan.devices[i];
    seconds += static_cast<double>(device.attention_bytes + device.kv_cache_bytes + device.predictor_bytes +
                                   device.head_bytes) /
               bytes_per_second[i];
  }
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const PlacementLayer& layer = problem.layers[l];
    std::vector<double> load(plan.devices.size());
    std::vector<bool> holds(plan.devices.size());
    for (const PlanUnit& unit : plan.layers[l].units) {
      holds[unit.device] = true;
      for (const uint32_t neuron : unit.neurons) {
        load[unit.device] += static_cast<double>(layer.neuron_bytes) *
                             (dense ? 1.0 : ReadProbability(layer.frequency[neuron], problem.batch_tokens));
      }
    }
    double slowest = 0;
    for (size_t i = 0; i < load.size(); ++i) slowest = std::max(slowest, load[i] / bytes_per_second[i]);
    const bool split = std::count(holds.begin(), holds.end(), true) > 1;
    seconds += slowest + (split ? problem.sync_micros * 1e-6 : 0);
  }
  return seconds > 0 ? static_cast<double>(problem.batch_tokens) / seconds : 0;
}

}  // namespace thermocline
