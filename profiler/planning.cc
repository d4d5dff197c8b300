// Planning.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/planning.h"

#include <algorithm>

#include "core/checked.h"
#include "profiler/placement_choice.h"
#include "scheduler/gpu_device.h"
#include "scheduler/kv_pages.h"
#include "scheduler/load_devices.h"

namespace thermocline {
namespace {

constexpr double kAssumedGbPerSecond = 1008;
constexpr int64_t kAssumedMemoryBytes = int64_t{24} * 1000 * 1000 * 1000;
constexpr double kAssumedSyncMicros = 20;

// The accelerator to plan for, from the hardware profile or assumed.
struct Accelerator {
  PlacementDevice device;
  double sync_micros = 0;
};

absl::StatusOr<Accelerator> ChooseAccelerator(const HardwareProfile& hardware,
                                              const PlanningOptions& options) {
  const auto found = std::ranges::find(hardware.accelerators, options.device, &AcceleratorProfile::kind);
  if (found == hardware.accelerators.end()) {
    if (options.device == DeviceKind::kHost) {
      return FailedPrecondition("the hardware profile has no emulated accelerator; probe with --device host");
    }
    return Accelerator{
        .device = {.name = kAssumedDevice,
                   .kind = options.device,
                   .budget_bytes = options.budget_bytes > 0 ? options.budget_bytes : kAssumedMemoryBytes,
                   .gb_per_second = kAssumedGbPerSecond},
        .sync_micros = kAssumedSyncMicros};
  }
  const int64_t budget = options.budget_bytes > 0 ? options.budget_bytes : found->memory_bytes;
  if (budget > found->memory_bytes) {
    return InvalidArgument("--gpu-memory is {} bytes, {} has {}", budget, found->name, found->memory_bytes);
  }
  return Accelerator{.device = {.name = found->name,
                                .kind = found->kind,
                                .budget_bytes = budget,
                                .gb_per_second = found->read_gb_per_second.median()},
                     .sync_micros = found->sync_micros.median()};
}

std::vector<double> Frequencies(const std::vector<uint64_t>& active, int64_t tokens) {
  std::vector<double> frequencies;
  if (tokens == 0) return frequencies;
  for (const uint64_t count : active)
    frequencies.push_back(static_cast<double>(count) / static_cast<double>(tokens));
  return frequencies;
}

// Empty where tokens read the neurons that are active.
std::string WhyAllAreRead(const ActivationProfile& profile) {
  const auto activation = ParseActivation(profile.activation);
  if (activation.ok() && !HasTrueZeros(*activation))
    return fmt::format("activation {} is zero on no range of inputs", profile.activation);
  if (!profile.footprint.reads_every_neuron) return {};
  return fmt::format("architecture {} norms its whole hidden layer", profile.architecture);
}

}  // namespace

NeuronBytes NeuronBytesOf(const FeedForward& ffn) {
  if (ffn.layout == FfnLayout::kMatrices) {
    const int64_t d_ff = ffn.gate.rows;
    return {.gate = ffn.gate.size_bytes() / d_ff,
            .up_down = (ffn.up.size_bytes() + ffn.down.size_bytes()) / d_ff};
  }
  const BundleView& bundles = ffn.bundles;
  const int64_t up = bundles.gated ? *RowBytes(bundles.up_type, bundles.d_model) : 0;
  return {.gate = *RowBytes(bundles.gate_type, bundles.d_model),
          .up_down = up + *RowBytes(bundles.down_type, bundles.d_model)};
}

ModelFootprint FootprintOf(const ModelConfig& config, const ModelWeights& weights) {
  ModelFootprint footprint{.reads_every_neuron = !config.has_silent_neurons()};
  const auto of_one = [&](int64_t block_bytes) { return (block_bytes + config.d_ff - 1) / config.d_ff; };
  // Files may mix types, so that layers differ: the largest, so that what is planned fits.
  const auto raise = [](int64_t& most, int64_t bytes) { most = std::max(most, bytes); };
  for (const LayerWeights& layer : weights.layers) {
    const FeedForward& ffn = layer.ffn;
    const bool bundled = ffn.layout == FfnLayout::kBundles;
    raise(footprint.neuron_bytes, bundled ? ffn.bundles.stride_bytes : of_one(ffn.size_bytes()));
    raise(footprint.gpu.neuron_bytes, bundled ? GpuBundleLayout(ffn.bundles, config.d_ff).stride_bytes
                                              : of_one(GpuDevice::MatricesBytes(ffn)));
    raise(footprint.attention_bytes, layer.attention_bytes());
    raise(footprint.gpu.attention_bytes, GpuDevice::AttentionBytes(layer));
  }
  footprint.kv_bytes_per_token = 2 * config.n_kv_heads * config.d_head * static_cast<int64_t>(sizeof(float));
  footprint.head_bytes = weights.head_bytes();
  footprint.context_tokens = config.context_length;
  footprint.scratch_bytes = AcceleratorScratchBytes(DeviceKind::kHost, config, config.context_length);
  footprint.gpu.head_bytes = GpuDevice::HeadBytes(weights.output_norm, weights.head);
  footprint.gpu.scratch_bytes = AcceleratorScratchBytes(DeviceKind::kCuda, config, config.context_length);
  return footprint;
}

absl::StatusOr<PlacementProblem> BuildPlacementProblem(const ActivationProfile& profile,
                                                       const std::string& profile_sha256,
                                                       const HardwareProfile& hardware,
                                                       const PlanningOptions& options) {
  const ModelFootprint& footprint = profile.footprint;
  if (footprint.neuron_bytes < 1 || footprint.context_tokens < 1) {
    return InvalidArgument("the profile does not say what the model's neurons weigh");
  }
  const auto cache_bytes_fit = CheckedMul(static_cast<uint64_t>(footprint.kv_bytes_per_token),
                                          static_cast<uint64_t>(footprint.context_tokens) + kKvPageTokens);
  const auto slots_fit =
      cache_bytes_fit
          ? CheckedMul(*cache_bytes_fit, static_cast<uint64_t>(std::max<int64_t>(1, options.slots)))
          : std::nullopt;
  if (!slots_fit || *slots_fit > static_cast<uint64_t>(INT64_MAX)) {
    return InvalidArgument("--slots is {}, keys and values of {} tokens each overflow 64 bits", options.slots,
                           footprint.context_tokens);
  }
  if (options.slots < 1) return InvalidArgument("--slots is {}, at least 1 is needed", options.slots);
  if (options.context_tokens < 0 || options.context_tokens > footprint.context_tokens) {
    return InvalidArgument("--context is {}, the model's context is {} tokens", options.context_tokens,
                           footprint.context_tokens);
  }
  // The footprint says what F32 takes.
  TC_ASSIGN_OR_RETURN(const int64_t kv_token_bytes,
                      RowBytes(KvTypeOn(options.device, options.kv_type),
                               footprint.kv_bytes_per_token / static_cast<int64_t>(sizeof(float))));
  const int64_t context = options.context_tokens > 0 ? options.context_tokens : footprint.context_tokens;
  PlacementProblem problem{.model_sha256 = profile.model_sha256,
                           .profile_sha256 = profile_sha256,
                           .head_bytes = footprint.head_bytes,
                           .cpu_gb_per_second = hardware.cpu_neuron_gb_per_second.median(),
                           .objective = options.objective,
                           .reads_all_because = WhyAllAreRead(profile),
                           .batch_tokens = options.batch_tokens,
                           .time_limit_seconds = options.time_limit_seconds};
  if (!options.predictor_bytes.empty() && options.predictor_bytes.size() != profile.layers.size()) {
    return InvalidArgument("predictors of {} layers do not go with the profile's {}",
                           options.predictor_bytes.size(), profile.layers.size());
  }
  problem.scratch_bytes = footprint.scratch_bytes;
  int64_t neuron_bytes = footprint.neuron_bytes, attention_bytes = footprint.attention_bytes;
  if (options.device == DeviceKind::kCuda) {
    if (footprint.gpu.scratch_bytes == 0) {
      return FailedPrecondition(
          "the profile does not say what a GPU needs besides the model; thermocline profile makes it anew");
    }
    // The larger of both sizes of a neuron: what the CPU reads of types that only it knows is overrated.
    neuron_bytes = std::max(neuron_bytes, footprint.gpu.neuron_bytes);
    attention_bytes = footprint.gpu.attention_bytes;
    problem.head_bytes = footprint.gpu.head_bytes;
    problem.scratch_bytes = footprint.gpu.scratch_bytes;
  }
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    const LayerActivations& layer = profile.layers[l];
    problem.layers.push_back(
        {.frequency = Frequencies(layer.profiled.active, profile.profiled_tokens),
         .held_out_frequency = Frequencies(layer.held_out.active, profile.held_out_tokens),
         .neuron_bytes = neuron_bytes,
         .attention_bytes = attention_bytes,
         .kv_cache_bytes = kv_token_bytes * PagesFor(context * options.slots) * kKvPageTokens,
         .predictor_bytes = options.predictor_bytes.empty() ? 0 : options.predictor_bytes[l]});
  }
  if (options.device != DeviceKind::kCpu) {
    TC_ASSIGN_OR_RETURN(const Accelerator accelerator, ChooseAccelerator(hardware, options));
    problem.accelerators.push_back(accelerator.device);
    problem.sync_micros = accelerator.sync_micros;
  }
  return problem;
}

absl::StatusOr<std::vector<SweepPoint>> SweepBudgets(PlacementProblem problem,
                                                     const std::vector<int64_t>& budgets) {
  std::vector<SweepPoint> points;
  if (problem.accelerators.size() != 1) return points;
  for (const int64_t budget : budgets) {
    problem.accelerators[0].budget_bytes = budget;
    const absl::StatusOr<Plan> plan = ChoosePlacement(problem);
    if (absl::IsResourceExhausted(plan.status())) continue;
    TC_RETURN_IF_ERROR(plan.status());
    points.push_back({.budget_bytes = budget,
                      .tokens_per_second = plan->prediction.tokens_per_second,
                      .held_out_coverage = plan->prediction.held_out_coverage,
                      .hot_neurons = plan->hot_neurons()});
  }
  return points;
}

}  // namespace thermocline
