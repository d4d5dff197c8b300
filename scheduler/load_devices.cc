// Splitting a model over devices.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/load_devices.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "scheduler/gpu_device.h"

namespace thermocline {
namespace {

// How many arrays of a layer a GPU aligns: norms, four matrices, cache, neurons, a predictor's four. A block
// of matrices is three arrays, and has no predictor.
constexpr int64_t kGpuArraysPerLayer = 12;

// What parts of the model take on one kind of accelerator.
struct PartSizes {
  int64_t scratch = 0;
  std::function<int64_t(const LayerWeights&)> attention;  // with its KV cache
  std::function<int64_t(const FeedForward&, int64_t n_neurons)> neurons;
  std::function<int64_t(const LayerPredictor&)> predictor;
  std::function<int64_t(const ModelWeights&)> head;
};

PartSizes SizesOn(DeviceKind kind, const ModelConfig& config, const DeviceLoading& loading) {
  const int64_t cache_bytes = KvPages::SizeBytes(config, KvTypeOn(kind, loading.kv_type), loading.kv_pages);
  if (kind == DeviceKind::kHost) {
    return {
        .scratch = CpuDevice::ScratchBytes(config, loading.block_tokens, /*threads=*/1),
        .attention = [=](const LayerWeights& layer) { return layer.attention_bytes() + cache_bytes; },
        .neurons =
            [](const FeedForward& ffn, int64_t n) {
              return ffn.layout == FfnLayout::kMatrices ? ffn.size_bytes() : n * ffn.bundles.stride_bytes;
            },
        .predictor = [&config](const LayerPredictor& p) { return p.SizeBytes(config.d_model, config.d_ff); },
        .head = [](const ModelWeights& weights) { return weights.head_bytes(); }};
  }
  return {.scratch = GpuDevice::ScratchBytes(config, loading.context_tokens, loading.block_tokens),
          .attention =
              [=](const LayerWeights& layer) {
                return GpuDevice::AttentionBytes(layer) + GpuArena::Aligned(cache_bytes);
              },
          .neurons =
              [](const FeedForward& ffn, int64_t n) {
                return ffn.layout == FfnLayout::kMatrices ? GpuDevice::MatricesBytes(ffn)
                                                          : GpuDevice::NeuronBytes(ffn.bundles, n);
              },
          .predictor = [&config](const LayerPredictor& p) { return GpuDevice::PredictorBytes(p, config); },
          .head =
              [](const ModelWeights& weights) {
                return GpuDevice::HeadBytes(weights.output_norm, weights.head);
              }};
}

// Bytes of an accelerator's part; what the device's used_bytes() will say once it is loaded, but for what a
// GPU takes when it is opened.
int64_t NeededBytes(const ModelConfig& config, const ModelWeights& weights, const ModelPlacement& placement,
                    int device, const DeviceLoading& loading) {
  const PartSizes sizes = SizesOn(loading.plan->devices[static_cast<size_t>(device)].kind, config, loading);
  int64_t bytes = sizes.scratch;
  for (size_t l = 0; l < placement.layers.size(); ++l) {
    const LayerPlacement& placed = placement.layers[l];
    const LayerWeights& layer = weights.layers[l];
    const auto n_neurons = std::ssize(placed.neurons[static_cast<size_t>(device)]);
    if (n_neurons > 0) bytes += sizes.neurons(layer.ffn, n_neurons);
    if (placed.attention_device == device) bytes += sizes.attention(layer);
    if (loading.predictors != nullptr && placed.predictor_device == device)
      bytes += sizes.predictor(loading.predictors->layers[l]);
  }
  if (placement.head_device == device) bytes += sizes.head(weights);
  return bytes;
}

// What a device has taken when it is created, whatever it is given.
int64_t OpeningBytes(DeviceKind kind) { return kind == DeviceKind::kCuda ? kGpuWorkspaceBytes : 0; }

absl::Status CheckAccelerators(const ModelConfig& config, const ModelWeights& weights,
                               const ModelPlacement& placement, const DeviceLoading& loading) {
  for (int d = 1; d < placement.n_devices; ++d) {
    const PlanDevice& device = loading.plan->devices[static_cast<size_t>(d)];
    const int64_t needed = NeededBytes(config, weights, placement, d, loading) + OpeningBytes(device.kind);
    if (needed > device.budget_bytes) {
      return ResourceExhausted(
          "{}: the plan's part of the model needs {} bytes with a KV cache of {} tokens, the budget is {} "
          "bytes",
          device.name, needed, loading.kv_pages * kKvPageTokens, device.budget_bytes);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Device>> CreateAccelerator(const ModelConfig& config,
                                                          const ModelWeights& weights,
                                                          const CpuContext& context,
                                                          const ModelPlacement& placement, int device,
                                                          const DeviceLoading& loading) {
  const PlanDevice& planned = loading.plan->devices[static_cast<size_t>(device)];
  if (planned.kind == DeviceKind::kHost) {
    return CpuDevice::CreateEmulated(config, *context.kernels, planned.budget_bytes,
                                     {.context_tokens = loading.context_tokens,
                                      .kv_pages = loading.kv_pages,
                                      .kv_type = loading.kv_type,
                                      .block_tokens = loading.block_tokens,
                                      .pack_weights = loading.pack_weights});
  }
  TC_RETURN_IF_ERROR(GpuDevice::CheckSupported(config));
  TC_ASSIGN_OR_RETURN(std::unique_ptr<Gpu> gpu, loading.open_gpu(device - 1));
  return GpuDevice::Create(config, *context.kernels, std::move(gpu),
                           {.name = planned.name,
                            .context_tokens = loading.context_tokens,
                            .kv_pages = loading.kv_pages,
                            .block_tokens = loading.block_tokens,
                            .size_bytes = NeededBytes(config, weights, placement, device, loading),
                            .table = device});
}

absl::Status LoadLayer(const ModelConfig& config, LayerWeights& layer, int64_t index,
                       const LayerPlacement& placed, const DeviceLoading& loading, LoadedDevices& loaded) {
  std::vector<std::unique_ptr<Device>>& devices = loaded.devices;
  TC_RETURN_IF_ERROR(devices[static_cast<size_t>(placed.attention_device)]->LoadAttention(index, layer));
  FeedForward& ffn = layer.ffn;
  if (ffn.layout == FfnLayout::kMatrices) {
    return devices[static_cast<size_t>(*placed.only_device())]->LoadMatrices(index, ffn);
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
  if (on_cpu_alone) loaded.cpu->LoadPromptDown(index, ffn);
  if (!on_cpu_alone && !loading.keep_host_copy) {
    ffn.bundle_storage = {};
    ffn.bundles.data = nullptr;
  }
  return absl::OkStatus();
}

}  // namespace

int64_t AcceleratorScratchBytes(DeviceKind kind, const ModelConfig& config, int64_t context_tokens) {
  if (kind == DeviceKind::kHost)
    return CpuDevice::ScratchBytes(config, kAcceleratorBlockTokens, /*threads=*/1);
  return GpuDevice::ScratchBytes(config, context_tokens, kAcceleratorBlockTokens) + OpeningBytes(kind) +
         (config.n_layers * kGpuArraysPerLayer + 2) * GpuArena::kAlignment;
}

absl::StatusOr<LoadedDevices> LoadDevices(const ModelConfig& config, ModelWeights& weights,
                                          const CpuContext& context, const ModelPlacement& placement,
                                          const DeviceLoading& loading) {
  TC_RETURN_IF_ERROR(CheckAccelerators(config, weights, placement, loading));
  const CpuDeviceOptions options{.context_tokens = loading.context_tokens,
                                 .kv_pages = loading.kv_pages,
                                 .kv_type = loading.kv_type,
                                 .block_tokens = loading.block_tokens,
                                 .pack_weights = loading.pack_weights,
                                 .thresholds = loading.thresholds,
                                 .borrow_neurons = loading.keep_host_copy};
  LoadedDevices loaded;
  TC_ASSIGN_OR_RETURN(std::unique_ptr<CpuDevice> cpu, CpuDevice::Create(config, context, options));
  loaded.cpu = cpu.get();
  loaded.devices.push_back(std::move(cpu));
  for (int d = 1; d < placement.n_devices; ++d) {
    TC_ASSIGN_OR_RETURN(std::unique_ptr<Device> accelerator,
                        CreateAccelerator(config, weights, context, placement, d, loading));
    loaded.devices.push_back(std::move(accelerator));
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
