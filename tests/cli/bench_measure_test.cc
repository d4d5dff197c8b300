// Operations of a prefill, counted by hand.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_measure.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

ModelConfig SmallConfig() {
  ModelConfig config;
  config.n_layers = 2;
  config.d_model = 8;
  config.d_ff = 10;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 3;
  config.n_vocab = 50;
  return config;
}

// A layer's matrices: 8 x (12 + 6 + 6 + 12) and 3 of 8 x 10.
constexpr double kLayerWeights = 8 * 36 + 240;
constexpr double kHead = 2 * 8 * 50;

TEST(PrefillOperations, CountsMatricesAttentionAndOneHead) {
  // Tokens see 1 + 2 + 3 positions; two products of 12 a pair.
  EXPECT_EQ(PrefillOperations(SmallConfig(), 3), 2 * (2 * 3 * kLayerWeights + 4 * 12 * 6) + kHead);
}

TEST(PrefillOperations, UngatedBlocksHaveTwoMatrices) {
  ModelConfig config = SmallConfig();
  config.gated = false;
  EXPECT_EQ(PrefillOperations(config, 1), 2 * (2 * (kLayerWeights - 80) + 4 * 12) + kHead);
}

TEST(PrefillOperations, WindowsLimitWhatATokenSees) {
  ModelConfig config = SmallConfig();
  config.window = {.tokens = 2, .layers = {true, false}};
  // The first layer's tokens see 1, 2, 2, 2 positions, the second's 1 to 4.
  EXPECT_EQ(PrefillOperations(config, 4), 2 * 2 * 4 * kLayerWeights + 4 * 12 * (7 + 10) + kHead);
}

}  // namespace
}  // namespace thermocline
