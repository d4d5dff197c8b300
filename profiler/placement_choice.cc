// The rule by which a plan is made by neuron or by layer, and the sentence that says so.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_choice.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

namespace thermocline {
namespace {

// The mean over the layers of the least share of neurons that make 80 % of the layer's activations; layers
// without any count as all alike.
double ShareFor80(const PlacementProblem& problem) {
  constexpr double kPart = 0.8;
  double shares = 0;
  for (const PlacementLayer& layer : problem.layers) {
    std::vector<double> descending = layer.frequency;
    std::ranges::sort(descending, std::greater<>());
    const double wanted = kPart * std::accumulate(descending.begin(), descending.end(), 0.0);
    if (wanted == 0) {
      shares += kPart;
      continue;
    }
    double sum = 0;
    size_t neurons = 0;
    while (neurons < descending.size() && sum < wanted) sum += descending[neurons++];
    shares += static_cast<double>(neurons) / static_cast<double>(descending.size());
  }
  return shares / static_cast<double>(problem.layers.size());
}

std::string WhatIsPlaced(const PlacementProblem& problem, const Plan& whole) {
  if (problem.accelerators.empty()) return "everything is on the CPU";
  return fmt::format("{} of {} layers are whole on '{}', {:.1f} tokens/s predicted", whole.whole_layers(),
                     whole.layers.size(), problem.accelerators.front().name,
                     whole.prediction.tokens_per_second);
}

}  // namespace

absl::StatusOr<Plan> ChoosePlacement(const PlacementProblem& problem) {
  if (!problem.reads_all_because.empty() || problem.objective == PlacementObjective::kLayers) {
    TC_ASSIGN_OR_RETURN(Plan whole, PlanWholeLayers(problem));
    const std::string why =
        problem.reads_all_because.empty()
            ? std::string("whole layers were asked for")
            : fmt::format("{}, so every token reads every neuron and no choice of hot ones can pay",
                          problem.reads_all_because);
    whole.prediction.by_layer = fmt::format("planned by layer: {}; {}", why, WhatIsPlaced(problem, whole));
    return whole;
  }
  TC_ASSIGN_OR_RETURN(Plan solved, SolvePlacement(problem));
  const auto n_neurons = std::ssize(problem.layers.front().frequency) * std::ssize(problem.layers);
  if (problem.objective != PlacementObjective::kLatency || problem.accelerators.empty() ||
      solved.hot_neurons() == n_neurons) {
    return solved;
  }
  TC_ASSIGN_OR_RETURN(Plan whole, PlanWholeLayers(problem));
  const double by_neuron = solved.prediction.tokens_per_second;
  const double by_layer = whole.prediction.tokens_per_second;
  if (by_neuron >= kLeastGainOfNeurons * by_layer) return solved;
  whole.prediction.by_layer = fmt::format(
      "planned by layer: hot and cold neurons are predicted at {:.1f} tokens/s, less than {} times the "
      "{:.1f} of whole layers ({:.0f} % of the neurons make 80 % of the activations, 80 % would if all fired "
      "alike); {}",
      by_neuron, kLeastGainOfNeurons, by_layer, 100 * ShareFor80(problem), WhatIsPlaced(problem, whole));
  whole.prediction.gap = std::max(0.0, by_neuron / by_layer - 1);
  whole.alternatives = std::move(solved.alternatives);
  whole.alternatives.insert(whole.alternatives.begin(),
                            {"hot and cold neurons", solved.hot_neurons(), std::move(solved.prediction)});
  return whole;
}

}  // namespace thermocline
