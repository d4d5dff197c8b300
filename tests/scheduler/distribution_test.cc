// Distances of distributions.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/distribution.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace thermocline {
namespace {

TEST(Distribution, EqualLogitsAreNoDistanceApart) {
  const std::vector<float> logits = {1.5f, -2.0f, 700.0f, -700.0f};
  const DistributionDistance distance = CompareDistributions(logits, logits);
  EXPECT_EQ(distance.kl_divergence, 0);
  EXPECT_TRUE(distance.same_top);
}

TEST(Distribution, AConstantAddedToAllLogitsChangesNothing) {
  const std::vector<float> p = {1, 2, 3}, q = {11, 12, 13};
  EXPECT_NEAR(CompareDistributions(p, q).kl_divergence, 0, 1e-12);
}

// p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): sum p log(p/q) = 1/2 log 2 - 1/4 log 2.
TEST(Distribution, KnownDivergence) {
  const std::vector<float> p = {std::log(2.0f), 0, 0}, q = {0, std::log(2.0f), 0};
  const DistributionDistance distance = CompareDistributions(p, q);
  EXPECT_NEAR(distance.kl_divergence, 0.25 * std::log(2.0), 1e-7);
  EXPECT_FALSE(distance.same_top);
}

TEST(Distribution, WhatIsNotANumberShows) {
  const std::vector<float> p = {0, 1}, q = {0, NAN};
  EXPECT_TRUE(std::isnan(CompareDistributions(p, q).kl_divergence));
}

}  // namespace
}  // namespace thermocline
