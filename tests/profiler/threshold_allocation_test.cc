// Greedy allocation where the answer is known.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/threshold_allocation.h"

#include <gtest/gtest.h>

#include <cmath>

namespace thermocline {
namespace {

// Costs a_i * (share_i * size_i)^2 add up: the least for a sum of skipped weights has them in proportion to 1
// / a_i.
TEST(AllocateGreedily, SplitsQuadraticCostsAsLagrangeSays) {
  const std::vector<int64_t> sizes = {100, 400, 200};
  const std::vector<double> weights = {4, 1, 2};
  const auto error = [&](std::span<const double> shares) {
    double sum = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const double skipped = shares[i] * static_cast<double>(sizes[i]);
      sum += weights[i] * skipped * skipped;
    }
    return sum;
  };
  const double target = 0.3;
  const int steps = 210;  // 1 weight each
  const std::vector<double> shares = AllocateGreedily(sizes, target, steps, error);
  EXPECT_NEAR(SkippedShare(sizes, shares), target, 1e-9);
  // 210 weights as 1/4 : 1 : 1/2.
  EXPECT_NEAR(shares[0] * 100, 30, 1);
  EXPECT_NEAR(shares[1] * 400, 120, 1);
  EXPECT_NEAR(shares[2] * 200, 60, 1);
}

TEST(AllocateGreedily, RaisesSmallProductsFasterAndStopsAtTheirEnd) {
  const std::vector<int64_t> sizes = {10, 90, 0};
  std::vector<double> seen;  // of the first candidates
  const auto free_first = [&](std::span<const double> shares) {
    if (seen.size() < 2) seen.push_back(std::max(shares[0], shares[1]));
    EXPECT_EQ(shares[2], 0);
    return shares[1];  // the first costs nothing
  };
  const std::vector<double> shares = AllocateGreedily(sizes, 0.5, 10, free_first);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen[0], 0.5, 1e-12);       // 5 weights of 10
  EXPECT_NEAR(seen[1], 5.0 / 90, 1e-12);  // of 90
  EXPECT_NEAR(shares[0], 0.5, 1e-12);     // another step would leave nothing of it
  EXPECT_NEAR(SkippedShare(sizes, shares), 0.5, 1e-12);
}

TEST(AllocateGreedily, EndsWhereNothingCanBeRaised) {
  const std::vector<int64_t> sizes = {50, 50};
  const auto shares = AllocateGreedily(sizes, 0.95, 4, [](std::span<const double>) { return 0.0; });
  for (const double share : shares) EXPECT_LE(share, kMostShare + 1e-12);
  EXPECT_GT(SkippedShare(sizes, shares), 0.9);
}

}  // namespace
}  // namespace thermocline
