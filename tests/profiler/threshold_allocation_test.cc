// Greedy allocation where the answer is known.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/threshold_allocation.h"

#include <gtest/gtest.h>

#include <algorithm>

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
  const auto way = AllocateGreedily(sizes, 1.0 / 700, 210, error);  // a weight each
  ASSERT_EQ(way.size(), 211u);
  EXPECT_EQ(way.front().error, 0);
  const std::vector<double>& shares = way.back().shares;
  EXPECT_NEAR(SkippedShare(sizes, shares), 0.3, 1e-9);
  // 210 weights as 1/4 : 1 : 1/2.
  EXPECT_NEAR(shares[0] * 100, 30, 1);
  EXPECT_NEAR(shares[1] * 400, 120, 1);
  EXPECT_NEAR(shares[2] * 200, 60, 1);
  EXPECT_EQ(way.back().error, error(shares));
}

TEST(AllocateGreedily, RaisesSmallProductsFasterAndStopsAtTheirEnd) {
  const std::vector<int64_t> sizes = {10, 90, 0};
  std::vector<double> seen;  // of the first candidates
  const auto free_first = [&](std::span<const double> shares) {
    if (seen.size() < 2) seen.push_back(std::max(shares[0], shares[1]));
    EXPECT_EQ(shares[2], 0);
    return shares[1];  // the first costs nothing
  };
  const auto way = AllocateGreedily(sizes, 0.05, 10, free_first);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_NEAR(seen[0], 0.5, 1e-12);       // 5 weights of 10
  EXPECT_NEAR(seen[1], 5.0 / 90, 1e-12);  // of 90
  ASSERT_EQ(way.size(), 11u);
  EXPECT_NEAR(way[1].shares[0], 0.5, 1e-12);
  EXPECT_NEAR(way[10].shares[0], 0.5, 1e-12);  // another step would leave nothing of it
  EXPECT_NEAR(SkippedShare(sizes, way[10].shares), 0.5, 1e-12);
}

TEST(AllocateGreedily, EndsWhereNothingCanBeRaised) {
  const std::vector<int64_t> sizes = {50, 50};
  const auto way = AllocateGreedily(sizes, 0.2, 100, [](std::span<const double>) { return 0.0; });
  ASSERT_EQ(way.size(), 5u);  // nothing left out, then 0.4 and 0.8 of each
  for (const double share : way.back().shares) EXPECT_NEAR(share, 0.8, 1e-12);
}

TEST(SpreadSteps, TakesThemWhereTheyCostLeast) {
  const std::vector<std::vector<double>> costs = {{0, 1, 4, 9}, {0, 2, 3}, {0, 10, 10, 10}};
  EXPECT_EQ(SpreadSteps(costs, 1), (std::vector<size_t>{1, 0, 0}));
  EXPECT_EQ(SpreadSteps(costs, 3), (std::vector<size_t>{1, 2, 0}));
  EXPECT_EQ(SpreadSteps(costs, 5), (std::vector<size_t>{3, 2, 0}));
  EXPECT_EQ(SpreadSteps(costs, 100), (std::vector<size_t>{3, 2, 3}));
}

}  // namespace
}  // namespace thermocline
