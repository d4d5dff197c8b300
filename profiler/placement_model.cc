// Sorting, running sums and the byte model of one layer.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace thermocline {
namespace {

constexpr double kGiga = 1e9;
constexpr double kMicro = 1e-6;

}  // namespace

PlacementModel::PlacementModel(const PlacementProblem& problem, std::vector<int64_t> free_bytes)
    : problem_(problem),
      free_bytes_(std::move(free_bytes)),
      n_neurons_(static_cast<int64_t>(problem.layers.front().frequency.size())) {
  for (const PlacementLayer& from : problem.layers) {
    Layer& layer = layers_.emplace_back();
    layer.order.resize(from.frequency.size());
    std::iota(layer.order.begin(), layer.order.end(), 0u);
    std::stable_sort(layer.order.begin(), layer.order.end(),
                     [&](uint32_t a, uint32_t b) { return from.frequency[a] > from.frequency[b]; });
    layer.load.push_back(0);
    layer.impact.push_back(0);
    for (const uint32_t neuron : layer.order) {
      const double frequency = from.frequency[neuron];
      layer.impact.push_back(layer.impact.back() + frequency);
      layer.load.push_back(layer.load.back() + static_cast<double>(from.neuron_bytes) *
                                                   ReadProbability(frequency, problem.batch_tokens));
    }
    for (const PlacementDevice& device : problem.accelerators) {
      layer.ranges.push_back(FindSplitRange(layer, device.gb_per_second * kGiga));
    }
  }
}

SplitRange PlacementModel::FindSplitRange(const Layer& layer, double accelerator_bytes_per_second) const {
  const double cpu_bytes_per_second = problem_.cpu_gb_per_second * kGiga;
  const double sync_seconds = problem_.sync_micros * kMicro;
  // Seconds that a byte of the hot side saves. Where both sides run at once that is all its time on the CPU;
  // the paper's constraint, for the impact objective, has the accelerator's time come on top.
  double saved = 1 / cpu_bytes_per_second;
  if (problem_.objective == PlacementObjective::kImpact) saved -= 1 / accelerator_bytes_per_second;
  SplitRange range{.least = n_neurons_, .most = n_neurons_ - 1};
  if (saved <= 0) return range;
  const auto pays = [&](double load) { return load * saved >= sync_seconds; };
  const auto least =
      std::partition_point(layer.load.begin(), layer.load.end(), [&](double load) { return !pays(load); });
  range.least = std::max<int64_t>(1, least - layer.load.begin());
  // The cold side must be worth the join as well, on the slower of the two devices.
  const double slower = std::min(cpu_bytes_per_second, accelerator_bytes_per_second);
  const double total = layer.load.back();
  const auto too_few = std::partition_point(layer.load.begin(), layer.load.end(), [&](double load) {
    return (total - load) / slower >= sync_seconds;
  });
  range.most = std::min<int64_t>(n_neurons_ - 1, too_few - layer.load.begin() - 1);
  return range;
}

double PlacementModel::frequency(int layer, int64_t rank) const {
  return problem_.layers[layer].frequency[layers_[layer].order[rank]];
}

bool PlacementModel::Allows(int layer, LayerChoice choice) const {
  if (choice.hot == 0 || choice.hot == n_neurons_) return true;
  const SplitRange range = split_range(layer, choice.device);
  return range.least <= choice.hot && choice.hot <= range.most;
}

int64_t PlacementModel::BalancePoint(int layer, int device) const {
  const double accelerator = problem_.accelerators[device - 1].gb_per_second;
  const std::vector<double>& load = layers_[layer].load;
  const auto point = std::partition_point(load.begin(), load.end(), [&](double hot) {
    return hot / accelerator < (load.back() - hot) / problem_.cpu_gb_per_second;
  });
  return point - load.begin();
}

double PlacementModel::HotSeconds(int layer, LayerChoice choice) const {
  if (choice.hot == 0) return 0;
  return HotLoad(layer, choice.hot) / (problem_.accelerators[choice.device - 1].gb_per_second * kGiga);
}

double PlacementModel::ColdSeconds(int layer, LayerChoice choice) const {
  return ColdLoad(layer, choice.hot) / (problem_.cpu_gb_per_second * kGiga);
}

double PlacementModel::Seconds(int layer, LayerChoice choice) const {
  const bool split = choice.hot > 0 && choice.hot < n_neurons_;
  return std::max(HotSeconds(layer, choice), ColdSeconds(layer, choice)) +
         (split ? problem_.sync_micros * kMicro : 0);
}

double PlacementModel::Cost(int layer, LayerChoice choice) const {
  if (problem_.objective == PlacementObjective::kImpact) return -Impact(layer, choice.hot);
  return Seconds(layer, choice);
}

double PlacementModel::Cost(const LayerChoices& choices) const {
  double cost = 0;
  for (int l = 0; l < n_layers(); ++l) cost += Cost(l, choices[l]);
  return cost;
}

std::vector<int64_t> PlacementModel::Left(const LayerChoices& choices) const {
  std::vector<int64_t> left = free_bytes_;
  for (int l = 0; l < n_layers(); ++l) {
    if (choices[l].hot > 0) left[choices[l].device - 1] -= choices[l].hot * neuron_bytes(l);
  }
  return left;
}

double ReadProbability(double frequency, int64_t batch_tokens) {
  if (batch_tokens == 1) return frequency;
  // 1 - (1 - f)^b without cancellation for small f.
  return -std::expm1(static_cast<double>(batch_tokens) * std::log1p(-frequency));
}

}  // namespace thermocline
