// LoadDevices: creates the devices of a placement and gives each its part of the model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "kernels_cuda/gpu.h"
#include "scheduler/cpu_device.h"
#include "scheduler/model_placement.h"

namespace thermocline {

// Most tokens of a step that an accelerator takes part in: its scratch grows with them.
inline constexpr int64_t kAcceleratorBlockTokens = 64;

// Opens the CUDA device of a number; tests open others.
using GpuOpener = std::function<absl::StatusOr<std::unique_ptr<Gpu>>(int ordinal)>;

struct DeviceLoading {
  int64_t context_tokens = 0;  // most positions of a sequence
  int64_t kv_pages = 0;
  ElementType kv_type = ElementType::kF16;
  bool pack_weights = true;                   // CpuDeviceOptions
  std::optional<ThresholdMethod> thresholds;  // the same
  int64_t block_tokens = 0;
  const Plan* plan = nullptr;                // nullptr: the CPU alone
  const PredictorSet* predictors = nullptr;  // nullptr: none
  bool keep_host_copy = false;               // neurons of accelerators stay in the CPU's memory too
  GpuOpener open_gpu = OpenGpu;
};

// What an accelerator needs besides its part of the model, so that a plan leaves room for it: with
// kAcceleratorBlockTokens, and on a GPU with what opening it takes and what aligning arrays costs.
int64_t AcceleratorScratchBytes(DeviceKind kind, const ModelConfig& config, int64_t context_tokens);

struct LoadedDevices {
  CpuDevice* cpu = nullptr;  // the first of them
  std::vector<std::unique_ptr<Device>> devices;
};

// Weights that lie as matrices must be placed in whole layers.
// The CPU's device borrows from `weights`, which must outlive the result. Neurons that go to an accelerator
// leave `weights` unless keep_host_copy: the bundles of a split layer are copied to where they belong and
// given back.
//
// ResourceExhausted, before anything is copied, naming device, need and budget when an accelerator's part
// does not fit its budget. What opening a CUDA device answers where there is none.
absl::StatusOr<LoadedDevices> LoadDevices(const ModelConfig& config, ModelWeights& weights,
                                          const CpuContext& context, const ModelPlacement& placement,
                                          const DeviceLoading& loading);

}  // namespace thermocline
