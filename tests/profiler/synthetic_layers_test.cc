// Synthetic layers count what they read, and marks are dealt evenly.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/synthetic_layers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "tests/support/refusal.h"

namespace thermocline {
namespace {

class SyntheticLayersTest : public testing::Test {
 protected:
  const std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
  const CpuContext context_{.team = team_.get(), .kernels = &BestKernels()};
};

TEST_F(SyntheticLayersTest, MakeTheWorkingSetOutOfWholeLayers) {
  // A bundle: 64 bytes of gate, 64 of up, 32 * 4 of down.
  const SyntheticShape shape{.d_model = 32,
                             .d_ff = 100,
                             .gate_type = ElementType::kF16,
                             .up_type = ElementType::kBF16,
                             .down_type = ElementType::kF32};
  EXPECT_EQ(SyntheticLayers::Create(context_, shape, 1)->n_layers(), 1u);
  EXPECT_EQ(SyntheticLayers::Create(context_, shape, 25600)->n_layers(), 1u);
  EXPECT_EQ(SyntheticLayers::Create(context_, shape, 25601)->n_layers(), 2u);
  EXPECT_EQ(SyntheticLayers::Create(context_, shape, 1)->layer_bytes(), 100 * 256);
}

TEST_F(SyntheticLayersTest, CountTheBytesOfTheNeuronsThatRan) {
  // Q8_0: 34 bytes for 32 weights; Q4_0: 18. Bundles are padded, reads are not.
  auto layers = *SyntheticLayers::Create(context_,
                                         {.d_model = 64,
                                          .d_ff = 90,
                                          .gate_type = ElementType::kQ4_0,
                                          .up_type = ElementType::kQ8_0,
                                          .down_type = ElementType::kQ8_0},
                                         30000);
  ASSERT_GT(layers.n_layers(), 1u);
  EXPECT_EQ(layers.layer_bytes(), 90 * 2 * (18 + 34 + 34));
  const std::vector<uint32_t> neurons = {0, 7, 89};
  EXPECT_EQ(layers.RunSparse(1, neurons), 3 * 2 * (18 + 34 + 34));
}

TEST_F(SyntheticLayersTest, UngatedLayersReadNoUpRows) {
  auto layers = *SyntheticLayers::Create(
      context_, {.d_model = 32, .d_ff = 10, .down_type = ElementType::kF32, .gated = false}, 1);
  EXPECT_EQ(layers.layer_bytes(), 10 * (64 + 128));
  layers.RunDense(0);
  const std::vector<uint32_t> neurons = {3, 4};
  EXPECT_EQ(layers.RunSparse(0, neurons), 2 * (64 + 128));
}

TEST_F(SyntheticLayersTest, RefuseWhatHasNoBundles) {
  const auto refused = [&](const SyntheticShape& shape, int64_t bytes, const std::string& word) {
    ExpectRefusal(SyntheticLayers::Create(context_, shape, bytes).status(), {word});
  };
  refused({.d_model = 0, .d_ff = 10}, 1, "width 0");
  refused({.d_model = 32, .d_ff = int64_t{1} << 40}, 1, "1099511627776");
  refused({.d_model = 33, .d_ff = 10, .gate_type = ElementType::kQ8_0}, 1, "33");
  refused({.d_model = 256, .d_ff = 10, .up_type = ElementType::kQ4_K}, 1, "Q4_K");
  refused({.d_model = 32, .d_ff = 10}, -1, "-1");
  refused({.d_model = 32, .d_ff = 10}, INT64_MAX, "bytes");
}

TEST(DealNeurons, EveryTokenMarksAsManyAndNeuronsComeAgainOnlyAfterAllOthers) {
  std::mt19937_64 random(5);
  for (const int64_t n : {1, 10, 97}) {
    for (int64_t per_token = 1; per_token <= n; per_token += 3) {
      const auto marks = DealNeurons(n, per_token, random);
      ASSERT_EQ(static_cast<int64_t>(marks.size()), (n + per_token - 1) / per_token);
      std::vector<int> times(static_cast<size_t>(n));
      for (const std::vector<uint32_t>& token : marks) {
        ASSERT_EQ(static_cast<int64_t>(token.size()), per_token);
        EXPECT_TRUE(std::ranges::is_sorted(token));
        EXPECT_EQ(std::set<uint32_t>(token.begin(), token.end()).size(), token.size());
        for (const uint32_t neuron : token) ++times.at(neuron);
      }
      const auto [least, most] = std::ranges::minmax(times);
      EXPECT_GE(least, 1);
      EXPECT_LE(most, 2);
    }
  }
}

}  // namespace
}  // namespace thermocline
