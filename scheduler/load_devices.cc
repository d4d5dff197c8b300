// Splitting a model over devices.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/load_devices.h"

#include <utility>

namespace thermocline {
namespace {

// Bytes of an accelerator's part; what CpuDevice::used_bytes() will say once it is loaded.
int64_t NeededBytes(const ModelConfig& config, const ModelWeights& weights, const ModelPlacement& placement,
                    int device, const DeviceLoading& loading) {
  int64_t bytes = CpuDevice::ScratchBytes(config, loading.context_tokens, loading.block_tokens);
  for (size_t l = 0; l < placement.layers.size(); ++l) {
    const LayerPlacement& placed = placement.layers[l];
    const LayerWeights& layer = weights.layers[l];
    bytes += static_cast<int64_t>(placed.neurons[static_cast<size_t>(device)].size()) *
             layer.ffn.bundles.stride_bytes;
    if (placed.attention_device == device) {
      bytes += layer.attention_bytes() + KvPages::SizeBytes(config, loading.kv_pages);
    }
    if (loading.predictors != nullptr && placed.predictor_device == device)
      bytes += loading.predictors->layers[l].SizeBytes(config.d_model, config.d_ff);
  }
  if (placement.head_device == device) bytes += weights.head_bytes();
  return bytes;
}

absl::Status CheckAccelerators(const ModelConfig& config, const ModelWeights& weights,
                               const ModelPlacement& placement, const DeviceLoading& loading) {
  for (int d = 1; d < placement.n_devices; ++d) {
    const PlanDevice& device = loading.plan->devices[static_cast<size_t>(d)];
    if (device.kind != DeviceKind::kHost) {
      return FailedPrecondition(
          "the plan needs '{}', which this build cannot run; thermocline plan makes another", device.name);
    }
    const int64_t needed = NeededBytes(config, weights, placement, d, loading);
    if (needed > device.budget_bytes) {
      return ResourceExhausted(
          "{}: the plan's part of the model needs {} bytes with a KV cache of {} tokens, the budget is {} "
          "bytes",
          device.name, needed, loading.kv_pages * kKvPageTokens, device.budget_bytes);
    }
  }
  return absl::OkStatus();
}

absl::Status LoadLayer(const ModelConfig& config, LayerWeights& layer, int64_t index,
                       const LayerPlacement& placed, const DeviceLoading& loading, LoadedDevices& loaded) {
  std::vector<std::unique_ptr<Device>>& devices = loaded.devices;
  TC_RETURN_IF_ERROR(devices[static_cast<size_t>(placed.attention_device)]->LoadAttention(index, layer));
  FeedForward& ffn = layer.ffn;
  if (ffn.layout == FfnLayout::kMatrices) {
    loaded.cpu->LoadMatrices(index, ffn);
    return absl::OkStatus();
  }
  if (loading.predictors != nullptr) {
    TC_RETURN_IF_ERROR(devices[static_cast<size_t>(placed.predictor_device)]->LoadPredictor(
        index, loading.predictors->layers[static_cast<size_t>(index)], placed.neurons, ffn.bundles.gate()));
  }
  for (size_t d = 0; d < devices.size(); ++d) {
    if (!placed.neurons[d].empty())
      TC_RETURN_IF_ERROR(devices[d]->LoadNeurons(index, ffn.bundles, placed.neurons[d]));
  }
  const bool on_cpu_alone = static_cast<int64_t>(placed.neurons[0].size()) == config.d_ff;
  if (!on_cpu_alone && !loading.keep_host_copy) {
    ffn.bundle_storage = {};
    ffn.bundles.data = nullptr;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LoadedDevices> LoadDevices(const ModelConfig& config, ModelWeights& weights,
                                          const CpuContext& context, const ModelPlacement& placement,
                                          const DeviceLoading& loading) {
  TC_RETURN_IF_ERROR(CheckAccelerators(config, weights, placement, loading));
  const CpuDeviceOptions options{.context_tokens = loading.context_tokens,
                                 .kv_pages = loading.kv_pages,
                                 .block_tokens = loading.block_tokens,
                                 .borrow_neurons = loading.keep_host_copy};
  LoadedDevices loaded;
  TC_ASSIGN_OR_RETURN(std::unique_ptr<CpuDevice> cpu, CpuDevice::Create(config, context, options));
  loaded.cpu = cpu.get();
  loaded.devices.push_back(std::move(cpu));
  for (int d = 1; d < placement.n_devices; ++d) {
    const int64_t budget_bytes = loading.plan->devices[static_cast<size_t>(d)].budget_bytes;
    TC_ASSIGN_OR_RETURN(std::unique_ptr<Device> emulated,
                        CpuDevice::CreateEmulated(config, *context.kernels, budget_bytes, options));
    loaded.devices.push_back(std::move(emulated));
  }
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    TC_RETURN_IF_ERROR(
        LoadLayer(config, weights.layers[l], static_cast<int64_t>(l), placement.layers[l], loading, loaded));
  }
  TC_RETURN_IF_ERROR(loaded.devices[static_cast<size_t>(placement.head_device)]->LoadHead(weights.output_norm,
                                                                                          weights.head));
  return loaded;
}

}  // namespace thermocline
