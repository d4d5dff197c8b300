// Makes the samples with a byte model simple enough to check by hand.
// SPDX-License-Identifier: Apache-2.0
#include "report_fixture.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <utility>

namespace thermocline {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr double kGpuBytesPerSecond = 820e9;
constexpr double kCpuBytesPerSecond = 42e9;

// What every token needs, and what one neuron weighs.
struct Sizes {
  int64_t neuron_bytes = 0;
  int64_t attention_bytes = 0;  // of a layer
  int64_t kv_cache_bytes = 0;   // of a layer
  int64_t predictor_bytes = 0;  // of a layer
  int64_t head_bytes = 0;
  int64_t scratch_bytes = 0;

  int64_t dense_bytes(int64_t layers) const {
    return scratch_bytes + head_bytes + layers * (attention_bytes + kv_cache_bytes + predictor_bytes);
  }
};

uint64_t AtRank(const std::vector<uint64_t>& counts, uint64_t hot_neurons) {
  std::vector<uint64_t> sorted = counts;
  std::ranges::sort(sorted, std::greater<>());
  return hot_neurons == 0 ? UINT64_MAX : sorted[std::min<size_t>(hot_neurons, sorted.size()) - 1];
}

// The most frequent neurons of the model on device 1, up to its budget.
Plan PlaceMostFrequent(const ActivationProfile& profile, const Sizes& sizes, const PlanDevice& accelerator) {
  std::vector<uint64_t> all;
  for (const LayerActivations& layer : profile.layers) {
    all.insert(all.end(), layer.profiled.active.begin(), layer.profiled.active.end());
  }
  const auto layers = static_cast<int64_t>(profile.layers.size());
  const int64_t left = accelerator.budget_bytes - sizes.dense_bytes(layers);
  const int64_t room = std::clamp<int64_t>(left / sizes.neuron_bytes, 0, static_cast<int64_t>(all.size()));
  const uint64_t least = AtRank(all, static_cast<uint64_t>(room));

  Plan plan;
  plan.model_sha256 = profile.model_sha256;
  plan.devices = {PlanDevice{.name = "cpu"}, accelerator};
  PlanDevice& device = plan.devices[1];
  device.attention_bytes = layers * sizes.attention_bytes;
  device.kv_cache_bytes = layers * sizes.kv_cache_bytes;
  device.predictor_bytes = layers * sizes.predictor_bytes;
  device.head_bytes = sizes.head_bytes;
  device.scratch_bytes = sizes.scratch_bytes;
  int64_t hot_left = room;
  double hot_active = 0;
  double cold_active = 0;
  double hot_held_out = 0;
  double cold_held_out = 0;
  for (const LayerActivations& layer : profile.layers) {
    PlanLayer placed = {.attention_device = 1, .kv_cache_device = 1, .units = {{.device = 0}, {.device = 1}}};
    for (size_t i = 0; i < layer.profiled.active.size(); ++i) {
      const bool hot = hot_left > 0 && layer.profiled.active[i] >= least;
      if (hot) --hot_left;
      PlanUnit& unit = placed.units[hot ? 1 : 0];
      unit.neurons.push_back(static_cast<uint32_t>(i));
      unit.bytes += sizes.neuron_bytes;
      (hot ? hot_active : cold_active) += static_cast<double>(layer.profiled.active[i]);
      (hot ? hot_held_out : cold_held_out) += static_cast<double>(layer.held_out.active[i]);
    }
    plan.devices[0].neuron_bytes += placed.units[0].bytes;
    device.neuron_bytes += placed.units[1].bytes;
    plan.layers.push_back(std::move(placed));
  }
  const double bundle =
      static_cast<double>(sizes.neuron_bytes) / static_cast<double>(profile.profiled_tokens);
  const double seconds =
      static_cast<double>(sizes.dense_bytes(layers)) / kGpuBytesPerSecond +
      std::max(hot_active * bundle / kGpuBytesPerSecond, cold_active * bundle / kCpuBytesPerSecond) +
      20e-6 * static_cast<double>(layers);
  plan.prediction = {
      .tokens_per_second = 1 / seconds,
      .binding = "memory",
      .gap = 0.0037,
      .coverage = hot_active / (hot_active + cold_active),
      .held_out_coverage = profile.held_out_tokens == 0 ? 0 : hot_held_out / (hot_held_out + cold_held_out)};
  return plan;
}

// Two alternatives that are a little and a lot worse.
void AddAlternatives(Plan& plan) {
  PlanPrediction top = plan.prediction;
  top.tokens_per_second *= 0.93;
  top.coverage *= 1.01;
  PlanPrediction first = plan.prediction;
  first.tokens_per_second *= 0.37;
  first.coverage *= 0.32;
  first.held_out_coverage *= 0.32;
  plan.alternatives = {{"global top-k", plan.hot_neurons(), top},
                       {"first n layers", plan.hot_neurons(), first}};
}

std::vector<SweepPoint> Sweep(const ActivationProfile& profile, const Sizes& sizes, PlanDevice accelerator,
                              int64_t step) {
  std::vector<SweepPoint> points;
  for (int64_t i = 1; i <= 12; ++i) {
    accelerator.budget_bytes =
        sizes.dense_bytes(static_cast<int64_t>(profile.layers.size())) + (i - 1) * step;
    const Plan plan = PlaceMostFrequent(profile, sizes, accelerator);
    points.push_back({accelerator.budget_bytes, plan.prediction.tokens_per_second,
                      plan.prediction.held_out_coverage, plan.hot_neurons()});
  }
  return points;
}

HardwareProfile Machine() {
  HardwareProfile hardware = {
      .cpu = "Example CPU, 16 cores", .isa = "AVX2", .threads = 16, .memory_bytes = int64_t{64} << 30};
  hardware.cpu_read = {{1, {{13.1, 13.4, 13.2}}}, {8, {{43.0, 44.1, 43.6}}}, {16, {{46.8, 47.2, 47.0}}}};
  hardware.cpu_neuron_gb_per_second = {{41.3, 42.0, 42.2}};
  return hardware;
}

AcceleratorProfile Gpu() {
  return {.name = "Example GPU",
          .kind = DeviceKind::kCuda,
          .emulated = false,
          .memory_bytes = int64_t{24} << 30,
          .read_gb_per_second = {{812, 820, 824}},
          .to_device_pageable_gb_per_second = {{9.1, 9.4, 11.2}},
          .to_device_pinned_gb_per_second = {{25.1, 25.2, 25.2}},
          .from_device_pageable_gb_per_second = {{8.8, 9.0, 9.1}},
          .from_device_pinned_gb_per_second = {{26.1, 26.2, 26.3}},
          .launch_micros = {{3.9, 4.1, 6.8}},
          .sync_micros = {{17.9, 20.0, 31.5}}};
}

// Share of tokens for which the neuron of that rank is active; deeper and middle layers are more skewed.
double FrequencyAtRank(double depth, double rank) {
  const double bend = 0.012 + 0.09 * std::pow(2 * depth - 0.9, 2);
  const double peak = 0.96 - 0.25 * depth * depth;
  return std::max(0.0, peak * std::pow(1 + rank / bend, -1.35) - 0.0009 * depth);
}

}  // namespace

ReportSample SkewedSample(int64_t n_layers, int64_t d_ff) {
  ReportSample sample;
  ActivationProfile& profile = sample.profile;
  profile = {.model_sha256 = "5f1dca30be4f7a5f3e8ad0f2f1a4d36c8f8ab1b7d7d25a1c9a3a3c4f0e6b7a21",
             .architecture = "llama",
             .activation = "relu",
             .d_model = 4096,
             .d_ff = d_ff,
             .profiled_tokens = 900000,
             .held_out_tokens = 100000};
  profile.corpus = {.file = "wikitext-103.txt"};
  std::mt19937_64 random(7);
  for (int64_t l = 0; l < n_layers; ++l) {
    const double depth = n_layers < 2 ? 0.5 : static_cast<double>(l) / static_cast<double>(n_layers - 1);
    LayerActivations layer;
    for (int64_t i = 0; i < d_ff; ++i) {
      const double frequency =
          FrequencyAtRank(depth, (static_cast<double>(i) + 0.5) / static_cast<double>(d_ff));
      const double drift = 0.7 + 0.6 * static_cast<double>(random() >> 11) * 0x1p-53;
      layer.profiled.active.push_back(static_cast<uint64_t>(frequency * 900000));
      layer.held_out.active.push_back(static_cast<uint64_t>(std::min(1.0, frequency * drift) * 100000));
    }
    profile.layers.push_back(std::move(layer));
  }
  const Sizes sizes = {.neuron_bytes = 3 * 4096 * 2,
                       .attention_bytes = 128 * kMiB,
                       .kv_cache_bytes = 64 * kMiB,
                       .predictor_bytes = 18 * kMiB,
                       .head_bytes = 250 * kMiB,
                       .scratch_bytes = 96 * kMiB};
  const int64_t all_neurons = n_layers * d_ff * sizes.neuron_bytes;
  PlanDevice accelerator = {.name = "cuda:0", .kind = DeviceKind::kCuda};
  accelerator.budget_bytes = sizes.dense_bytes(n_layers) + all_neurons / 5;
  sample.plan = PlaceMostFrequent(profile, sizes, accelerator);
  AddAlternatives(sample.plan);
  sample.sweep = Sweep(profile, sizes, accelerator, all_neurons / 11);
  sample.hardware = Machine();
  sample.hardware.accelerators = {Gpu()};
  return sample;
}

ReportSample DemoSample() {
  ReportSample sample;
  sample.model_name = "models/demo";
  std::ifstream file(THERMOCLINE_SOURCE_DIR "/models/demo/golden.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  ActivationProfile& profile = sample.profile;
  profile = {.model_sha256 = "0c9f4d0a3b1e5a7780ff6ecc2c4d39a71d1b6c1f9a64b6d7e1c7a8b9e3f20514",
             .architecture = "llama",
             .activation = "relu",
             .d_model = 256,
             .d_ff = 1024,
             .profiled_tokens = golden["text_tokens"]};
  profile.corpus = {.file = "valid.txt"};
  for (const nlohmann::json& counts : golden["active_counts"]) {
    LayerActivations layer;
    layer.profiled.active = counts.get<std::vector<uint64_t>>();
    layer.held_out.active.resize(layer.profiled.active.size());
    profile.layers.push_back(std::move(layer));
  }
  const Sizes sizes = {.neuron_bytes = 3 * 256 * 4,
                       .attention_bytes = kMiB,
                       .kv_cache_bytes = kMiB / 2,
                       .predictor_bytes = kMiB / 8,
                       .head_bytes = 4 * kMiB,
                       .scratch_bytes = kMiB};
  const PlanDevice accelerator = {.name = "host", .kind = DeviceKind::kHost, .budget_bytes = 20 * kMiB};
  sample.plan = PlaceMostFrequent(profile, sizes, accelerator);
  sample.plan.prediction.gap = 0;
  AddAlternatives(sample.plan);
  sample.hardware = Machine();
  AcceleratorProfile emulated = Gpu();
  emulated.name = "emulated accelerator";
  emulated.kind = DeviceKind::kHost;
  emulated.emulated = true;
  sample.hardware.accelerators = {emulated};
  return sample;
}

ReportSample EmptySample(int64_t n_layers, int64_t d_ff) {
  ReportSample sample;
  sample.profile.d_ff = d_ff;
  sample.plan.devices = {PlanDevice{.name = "cpu"}};
  for (int64_t l = 0; l < n_layers; ++l) {
    LayerActivations layer;
    layer.profiled.active.resize(static_cast<size_t>(d_ff));
    layer.held_out.active.resize(static_cast<size_t>(d_ff));
    sample.profile.layers.push_back(std::move(layer));
    PlanUnit unit;
    for (int64_t i = 0; i < d_ff; ++i) unit.neurons.push_back(static_cast<uint32_t>(i));
    sample.plan.layers.push_back({.units = {std::move(unit)}});
  }
  return sample;
}

}  // namespace thermocline
