// Problems for the placement tests, and an evaluation of plans that shares no code with the solver.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "profiler/placement.h"

namespace thermocline {

// Frequencies of u^power: the larger the power, the more skewed.
inline std::vector<double> SkewedFrequencies(std::mt19937& random, int64_t n, double power) {
  std::uniform_real_distribution<double> uniform(0, 1);
  std::vector<double> frequency(static_cast<size_t>(n));
  for (double& f : frequency) f = std::pow(uniform(random), power);
  return frequency;
}

// Layers without tenants; neurons of 1 MB, a CPU of 10 GB/s (100 us a certain neuron), one accelerator of
// 500 GB/s, no synchronisation cost.
inline PlacementProblem SmallProblem(uint32_t seed, int n_layers, int64_t n_neurons, int64_t budget_neurons) {
  std::mt19937 random(seed);
  PlacementProblem problem{.model_sha256 = std::string(64, 'a'), .profile_sha256 = std::string(64, 'b')};
  for (int l = 0; l < n_layers; ++l) {
    PlacementLayer& layer = problem.layers.emplace_back();
    layer.frequency = SkewedFrequencies(random, n_neurons, 1 + l % 3);
    layer.held_out_frequency = SkewedFrequencies(random, n_neurons, 2);
    layer.neuron_bytes = 1'000'000;
  }
  problem.accelerators = {{"host", DeviceKind::kHost, budget_neurons * 1'000'000, 500}};
  problem.cpu_gb_per_second = 10;
  problem.group_neurons = 1;
  return problem;
}

inline double Probability(double frequency, int64_t batch) {
  return 1 - std::pow(1 - frequency, static_cast<double>(batch));
}

// device[i]: of neuron i of the layer.
inline double LayerSeconds(const PlacementProblem& problem, int layer, const std::vector<int>& device) {
  std::vector<double> seconds(problem.accelerators.size() + 1);
  for (size_t i = 0; i < device.size(); ++i) {
    const double speed =
        device[i] == 0 ? problem.cpu_gb_per_second : problem.accelerators[device[i] - 1].gb_per_second;
    seconds[device[i]] += static_cast<double>(problem.layers[layer].neuron_bytes) *
                          Probability(problem.layers[layer].frequency[i], problem.batch_tokens) /
                          (speed * 1e9);
  }
  const bool split = std::set<int>(device.begin(), device.end()).size() > 1;
  return *std::max_element(seconds.begin(), seconds.end()) + (split ? problem.sync_micros * 1e-6 : 0);
}

inline double LayerImpact(const PlacementProblem& problem, int layer, const std::vector<int>& device) {
  double impact = 0;
  for (size_t i = 0; i < device.size(); ++i) {
    if (device[i] > 0) impact += problem.layers[layer].frequency[i];
  }
  return impact;
}

// What the objective minimises.
inline double LayerCost(const PlacementProblem& problem, int layer, const std::vector<int>& device) {
  return problem.objective == PlacementObjective::kLatency ? LayerSeconds(problem, layer, device)
                                                           : -LayerImpact(problem, layer, device);
}

// C_l and D_l from their definitions, one neuron after the other; d_ff + 1 when there is none.
inline int64_t LeastHot(const PlacementProblem& problem, int layer, int accelerator) {
  std::vector<double> frequency = problem.layers[layer].frequency;
  std::sort(frequency.rbegin(), frequency.rend());
  double rate = 1 / (problem.cpu_gb_per_second * 1e9);
  if (problem.objective == PlacementObjective::kImpact) {
    rate -= 1 / (problem.accelerators[accelerator - 1].gb_per_second * 1e9);
  }
  double saved = 0;
  for (size_t i = 0; i < frequency.size(); ++i) {
    saved += static_cast<double>(problem.layers[layer].neuron_bytes) *
             Probability(frequency[i], problem.batch_tokens) * rate;
    if (saved >= problem.sync_micros * 1e-6 && rate > 0) return static_cast<int64_t>(i) + 1;
  }
  return std::ssize(frequency) + 1;
}

inline int64_t LeastCold(const PlacementProblem& problem, int layer, int accelerator) {
  std::vector<double> frequency = problem.layers[layer].frequency;
  std::sort(frequency.begin(), frequency.end());
  const double slower =
      std::min(problem.cpu_gb_per_second, problem.accelerators[accelerator - 1].gb_per_second) * 1e9;
  double seconds = 0;
  for (size_t i = 0; i < frequency.size(); ++i) {
    seconds += static_cast<double>(problem.layers[layer].neuron_bytes) *
               Probability(frequency[i], problem.batch_tokens) / slower;
    if (seconds >= problem.sync_micros * 1e-6) return static_cast<int64_t>(i) + 1;
  }
  return std::ssize(frequency) + 1;
}

inline bool MaySplit(const PlacementProblem& problem, int layer, int accelerator, int64_t hot) {
  const auto n = std::ssize(problem.layers[layer].frequency);
  if (hot == 0 || hot == n) return true;
  return hot >= LeastHot(problem, layer, accelerator) && n - hot >= LeastCold(problem, layer, accelerator);
}

// (n_layers, d_ff) from the units; -1 where a neuron is in none, -2 where it is in several.
inline std::vector<std::vector<int>> DeviceOfNeurons(const Plan& plan, int64_t n_neurons) {
  std::vector<std::vector<int>> devices;
  for (const PlanLayer& layer : plan.layers) {
    std::vector<int>& device = devices.emplace_back(static_cast<size_t>(n_neurons), -1);
    for (const PlanUnit& unit : layer.units) {
      for (const uint32_t neuron : unit.neurons) device[neuron] = device[neuron] == -1 ? unit.device : -2;
    }
  }
  return devices;
}

inline double PlanCost(const PlacementProblem& problem, const Plan& plan) {
  const auto devices = DeviceOfNeurons(plan, std::ssize(problem.layers[0].frequency));
  double cost = 0;
  for (size_t l = 0; l < devices.size(); ++l) cost += LayerCost(problem, static_cast<int>(l), devices[l]);
  return cost;
}

inline int64_t HotNeurons(const PlanLayer& layer) {
  int64_t hot = 0;
  for (const PlanUnit& unit : layer.units) {
    if (unit.device > 0) hot += std::ssize(unit.neurons);
  }
  return hot;
}

}  // namespace thermocline
