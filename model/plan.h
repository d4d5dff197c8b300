// Plan: which parts of a model live on which device, and its file plan.pb.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/activation_profile.h"

namespace thermocline {

// kLayers is no optimum but the dense split: the first layers wholly on accelerators, the others on the CPU.
enum class PlacementObjective { kLatency, kImpact, kLayers };
std::string_view NameOf(PlacementObjective objective);  // "latency"
absl::StatusOr<PlacementObjective> ParseObjective(std::string_view name);
enum class DeviceKind { kCpu, kCuda, kHost };

struct PlanDevice {
  std::string name;  // "cpu", "cuda:0", "host"
  DeviceKind kind = DeviceKind::kCpu;
  int64_t budget_bytes = 0;  // 0 for the CPU
  int64_t attention_bytes = 0;
  int64_t kv_cache_bytes = 0;
  int64_t predictor_bytes = 0;
  int64_t head_bytes = 0;
  int64_t scratch_bytes = 0;
  int64_t neuron_bytes = 0;
  int64_t used_bytes() const {
    return attention_bytes + kv_cache_bytes + predictor_bytes + head_bytes + scratch_bytes + neuron_bytes;
  }
};

struct PlanUnit {
  int device = 0;  // index into Plan::devices
  int64_t bytes = 0;
  double probability = 0;         // mean frequency of its neurons
  std::vector<uint32_t> neurons;  // ascending
};

struct PlanLayer {
  int attention_device = 0;
  int kv_cache_device = 0;
  int predictor_device = 0;     // where there are predictors
  std::vector<PlanUnit> units;  // every neuron in exactly one
};

struct PlanPrediction {
  double tokens_per_second = 0;
  std::string binding;  // "memory", "synchronisation", "gpu bandwidth", "nothing"
  double gap = 0;
  double coverage = 0;
  double held_out_coverage = 0;
  std::string by_layer = {};  // why whole layers are placed, not hot and cold neurons; empty: neurons are
};

struct PlanAlternative {
  std::string name;  // "global top-k", "first n layers"
  int64_t hot_neurons = 0;
  PlanPrediction prediction;
};

struct Plan {
  std::string model_sha256;
  std::string profile_sha256;
  PlacementObjective objective = PlacementObjective::kLatency;
  int64_t batch_tokens = 1;
  std::vector<PlanDevice> devices;  // the CPU first
  std::vector<PlanLayer> layers;    // index is the layer's number
  PlanPrediction prediction;
  std::vector<PlanAlternative> alternatives;

  int64_t hot_neurons() const;         // on accelerators
  int64_t whole_layers() const;        // whose neurons are all on accelerators
  bool splits_layers() const;          // whether some layer's neurons are on several devices
  int64_t accelerator_bytes() const;   // used, all accelerators
  int64_t accelerator_budget() const;  // all accelerators
};

// The same bytes for the same plan. Written beside and renamed.
absl::Status WritePlan(const Plan& plan, const std::string& path);
// InvalidArgument naming path and field: device indices, neurons outside d_ff or not in exactly one unit,
// layers missing or doubled.
absl::StatusOr<Plan> ReadPlan(const std::string& path, const ModelIdentity& model);

}  // namespace thermocline
