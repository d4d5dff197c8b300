// Placement: which neurons live on which device, as a mixed-integer program.
// SPDX-License-Identifier: Apache-2.0
//
// Objectives and constraints: docs/placement.md. Solved with COIN-OR CBC; deterministic for the same problem.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/plan.h"

namespace thermocline {

struct PlacementLayer {
  std::vector<double> frequency;           // (d_ff), share of profiled tokens for which the neuron is active
  std::vector<double> held_out_frequency;  // (d_ff), of held-out tokens; empty when none were held out
  int64_t neuron_bytes = 0;                // of one neuron's bundle
  int64_t attention_bytes = 0;             // attention weights and norms
  int64_t kv_cache_bytes = 0;              // for the declared contexts
  int64_t predictor_bytes = 0;
};

struct PlacementDevice {
  std::string name;  // "cuda:0", "host"
  DeviceKind kind = DeviceKind::kCuda;
  int64_t budget_bytes = 0;
  double gb_per_second = 0;  // of its memory, as its kernels reach it
};

struct PlacementProblem {
  std::string model_sha256;
  std::string profile_sha256;
  std::vector<PlacementLayer> layers;
  int64_t head_bytes = 0;                     // head and final norm
  int64_t scratch_bytes = 0;                  // activations and staging on an accelerator
  std::vector<PlacementDevice> accelerators;  // none: all is on the CPU
  double cpu_gb_per_second = 0;               // as the neuron-aware CPU kernels reach it
  double sync_micros = 0;                     // of one join between CPU and accelerator in a layer
  PlacementObjective objective = PlacementObjective::kLatency;
  // Why every token reads every neuron, whatever the frequencies ("activation silu is nowhere exactly zero");
  // empty: neurons are read when they are active.
  std::string reads_all_because = {};
  int64_t batch_tokens = 1;  // a neuron is read when any of them needs it: 1 - (1 - f)^batch
  int64_t group_neurons = 64;
  double time_limit_seconds = 20;
};

// Density-1 tenants go to the accelerator first: scratch, predictors, attention and cache layer by layer,
// head. Where not all fit, as many layers' attention and cache as do (whole layers, in order); neurons share
// what is left, those of a layer on one accelerator and the CPU. The plan is never worse than its
// alternatives. Objective kLayers is not solved for: whole layers from the first, as many as fit.
// InvalidArgument naming field, value and limit for figures that are not numbers, not positive or absurd,
// ResourceExhausted for a budget that not even scratch and one unit fit, saying what would fit.
absl::StatusOr<Plan> SolvePlacement(const PlacementProblem& problem);

// Whole layers from the first (attention, cache, predictor and every neuron), as many as fit, whatever the
// objective. The errors are those of SolvePlacement.
absl::StatusOr<Plan> PlanWholeLayers(const PlacementProblem& problem);

// Expected decode speed of a plan under the byte model: tokens a second; 0 when nothing is read. Of objective
// kLayers, and where tokens read all, every neuron counts whatever its frequency. The plan must have the
// problem's devices, layers and neurons.
double PredictTokensPerSecond(const PlacementProblem& problem, const Plan& plan);

}  // namespace thermocline
