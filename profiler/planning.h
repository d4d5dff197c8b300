// Planning: from a saved profile and measured hardware to a placement problem; what-if sweeps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/activation_profile.h"
#include "model/plan.h"
#include "model/weights.h"
#include "predictor/train_predictors.h"
#include "profiler/hardware.h"
#include "profiler/placement.h"
#include "profiler/report.h"

namespace thermocline {

struct PlanningOptions {
  DeviceKind device = DeviceKind::kCuda;    // of the accelerator to plan for; kCpu plans without one
  int64_t budget_bytes = 0;                 // of its memory; 0: all of what the hardware profile says it has
  int64_t context_tokens = 0;               // keys and values of one slot; 0: the model's context
  int64_t slots = 1;                        // sequences at a time
  ElementType kv_type = ElementType::kF16;  // of keys and values; a GPU holds F32
  PlacementObjective objective = PlacementObjective::kLatency;
  int64_t batch_tokens = 1;
  double time_limit_seconds = 20;
  std::vector<int64_t> predictor_bytes;  // (n_layers); empty: there are no predictors
};

// Figures that stand in for an accelerator that is not in the hardware profile, so that a machine without one
// can plan for one: those of an RTX 4090 (published: 24 GB, 1008 GB/s) and a join as long as PowerInfer's
// constraint assumes none shorter. Plans made with them carry the device name kAssumedDevice.
inline constexpr char kAssumedDevice[] = "assumed RTX 4090";

// What the bytes of a model are, as far as placement needs them.
NeuronBytes NeuronBytesOf(const FeedForward& ffn);
ModelFootprint FootprintOf(const ModelConfig& config, const ModelWeights& weights);

// InvalidArgument naming the field where profile, hardware and options do not make a problem.
absl::StatusOr<PlacementProblem> BuildPlacementProblem(const ActivationProfile& profile,
                                                       const std::string& profile_sha256,
                                                       const HardwareProfile& hardware,
                                                       const PlanningOptions& options);

// Solves the problem for every budget of its (one) accelerator. A budget that is too small is left out.
absl::StatusOr<std::vector<SweepPoint>> SweepBudgets(PlacementProblem problem,
                                                     const std::vector<int64_t>& budgets);

}  // namespace thermocline
