// SolvePlacement: tenants, program, fill and the plan they make.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement.h"

#include <algorithm>
#include <cmath>

#include "profiler/placement_baselines.h"
#include "profiler/placement_check.h"
#include "profiler/placement_milp.h"
#include "profiler/placement_model.h"
#include "profiler/placement_tenants.h"
#include "profiler/placement_verdict.h"

namespace thermocline {
namespace {

// Neurons of ranks [begin, end), which live on one device.
PlanUnit MakeUnit(const PlacementModel& model, int layer, int device, int64_t begin, int64_t end) {
  const std::vector<uint32_t>& order = model.order(layer);
  PlanUnit unit{.device = device, .bytes = (end - begin) * model.neuron_bytes(layer)};
  unit.neurons.assign(order.begin() + begin, order.begin() + end);
  std::sort(unit.neurons.begin(), unit.neurons.end());
  // Rounding must not lift a mean of ones above 1.
  unit.probability = std::clamp(
      (model.Impact(layer, end) - model.Impact(layer, begin)) / static_cast<double>(end - begin), 0.0, 1.0);
  return unit;
}

Plan MakePlan(const PlacementModel& model, const Tenants& tenants, const LayerChoices& choices) {
  const PlacementProblem& problem = model.problem();
  Plan plan{.model_sha256 = problem.model_sha256,
            .profile_sha256 = problem.profile_sha256,
            .objective = problem.objective,
            .batch_tokens = problem.batch_tokens,
            .devices = tenants.devices};
  for (int l = 0; l < model.n_layers(); ++l) {
    PlanLayer& layer = plan.layers.emplace_back();
    layer.attention_device = layer.kv_cache_device = tenants.attention_device[l];
    layer.predictor_device = tenants.predictor_device[l];
    const int64_t hot = choices[l].hot;
    for (int64_t begin = 0; begin < model.n_neurons();) {
      // A group that the border cuts makes two units.
      int64_t end = std::min((begin / problem.group_neurons + 1) * problem.group_neurons, model.n_neurons());
      if (begin < hot && hot < end) end = hot;
      const int device = begin < hot ? choices[l].device : 0;
      layer.units.push_back(MakeUnit(model, l, device, begin, end));
      plan.devices[device].neuron_bytes += layer.units.back().bytes;
      begin = end;
    }
  }
  plan.prediction.tokens_per_second = PredictTokensPerSecond(problem, plan);
  plan.prediction.coverage = Coverage(model, choices);
  plan.prediction.held_out_coverage = HeldOutCoverage(model, choices);
  plan.prediction.binding = BindingConstraint(model, tenants, choices);
  return plan;
}

double Gap(double cost, double bound) {
  if (cost <= bound || bound == 0) return 0;
  return (cost - bound) / std::abs(bound);
}

}  // namespace

absl::StatusOr<Plan> PlanWholeLayers(const PlacementProblem& problem) {
  TC_RETURN_IF_ERROR(CheckPlacementProblem(problem));
  TC_ASSIGN_OR_RETURN(const WholeLayers whole, PlaceWholeLayers(problem));
  const PlacementModel model(problem, whole.tenants.free_bytes);
  Plan plan = MakePlan(model, whole.tenants, whole.choices);
  // The objective's own constraints bind nothing here.
  plan.prediction.binding = whole.tenants.all_on_accelerators ? "nothing" : "memory";
  return plan;
}

absl::StatusOr<Plan> SolvePlacement(const PlacementProblem& problem) {
  TC_RETURN_IF_ERROR(CheckPlacementProblem(problem));
  if (problem.objective == PlacementObjective::kLayers) return PlanWholeLayers(problem);
  TC_ASSIGN_OR_RETURN(const Tenants tenants, PlaceTenants(problem));
  const PlacementModel model(problem, tenants.free_bytes);

  LayerChoices top_k = GlobalTopK(model);
  FillMemory(model, top_k);
  const LayerChoices first_layers = FirstLayers(model);
  TC_ASSIGN_OR_RETURN(const MilpResult result, SolveMilp(model, {top_k, first_layers}));

  LayerChoices best = result.choices;
  FillMemory(model, best);
  for (const int64_t left : model.Left(best)) TC_CHECK(left >= 0);
  Plan plan = MakePlan(model, tenants, best);
  plan.prediction.gap = Gap(model.Cost(best), result.bound);
  for (const auto& [name, choices] : {std::pair<const char*, const LayerChoices&>{"global top-k", top_k},
                                      {"first n layers", first_layers}}) {
    const Plan alternative = MakePlan(model, tenants, choices);
    plan.alternatives.push_back({name, alternative.hot_neurons(), alternative.prediction});
    plan.alternatives.back().prediction.gap = Gap(model.Cost(choices), result.bound);
  }
  return plan;
}

}  // namespace thermocline
