// Random plans over the CPU and one accelerator, predictors without training, and tokens, for tests of
// splits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <utility>
#include <vector>

#include "model/config.h"
#include "model/plan.h"
#include "model/tokenizer.h"
#include "predictor/predictor_set.h"

namespace thermocline::testing {

// Tokens of the vocabulary of 64 that typed_llama.h has.
inline std::vector<TokenId> RandomTokens(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<TokenId> tokens(count);
  for (TokenId& token : tokens) token = static_cast<TokenId>(random() % 64);
  return tokens;
}

// A plan that puts each neuron with probability `hot` on the accelerator, and the rest by a coin.
inline Plan RandomPlan(const ModelConfig& config, double hot, uint32_t seed,
                       DeviceKind accelerator = DeviceKind::kHost) {
  std::mt19937 random(seed);
  std::bernoulli_distribution is_hot(hot), coin(0.5);
  Plan plan{.devices = {{.name = "cpu"},
                        {.name = accelerator == DeviceKind::kHost ? "host" : "cuda:0", .kind = accelerator}}};
  plan.devices[1].budget_bytes = int64_t{1} << 30;
  plan.devices[1].head_bytes = coin(random) ? 1 : 0;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    PlanLayer layer{.attention_device = coin(random), .predictor_device = coin(random)};
    layer.kv_cache_device = layer.attention_device;
    layer.units = {{.device = 0}, {.device = 1}};
    for (int64_t i = 0; i < config.d_ff; ++i)
      layer.units[is_hot(random)].neurons.push_back(static_cast<uint32_t>(i));
    std::erase_if(layer.units, [](const PlanUnit& unit) { return unit.neurons.empty(); });
    plan.layers.push_back(std::move(layer));
  }
  return plan;
}

// A plan of whole layers, each on the CPU or the accelerator by bit l of `on_accelerator`; the head goes with
// the last.
inline Plan LayersPlan(const ModelConfig& config, uint32_t on_accelerator,
                       DeviceKind accelerator = DeviceKind::kHost) {
  Plan plan = RandomPlan(config, 0, 1, accelerator);
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    const int device = static_cast<int>(on_accelerator >> l & 1);
    PlanLayer& layer = plan.layers[l];
    layer.attention_device = layer.kv_cache_device = layer.predictor_device = device;
    for (PlanUnit& unit : layer.units) unit.device = device;
    plan.devices[1].head_bytes = device;
  }
  return plan;
}

// Sign predictors with one threshold: -d_model marks every neuron, d_model none.
inline PredictorSet SignPredictors(const ModelConfig& config, double threshold) {
  PredictorSet set{.model = {.n_layers = config.n_layers, .d_model = config.d_model, .d_ff = config.d_ff}};
  set.layers.assign(
      static_cast<size_t>(config.n_layers),
      {.kind = PredictorKind::kSign, .balanced_threshold = threshold, .fast_threshold = threshold});
  return set;
}

}  // namespace thermocline::testing
