// Quantiles of magnitudes against sorted values.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/magnitude_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace thermocline {
namespace {

std::vector<float> NormalValues(size_t count, float deviation, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> distribution(0, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = distribution(random);
  return values;
}

TEST(MagnitudeHistogram, QuantilesAreThoseOfTheSortedValuesWithinABin) {
  for (const float deviation : {1e-6f, 1.0f, 1e6f}) {
    const std::vector<float> values = NormalValues(20'000, deviation, 7);
    MagnitudeHistogram histogram;
    histogram.Add(values);
    std::vector<float> sorted;
    for (const float value : values) sorted.push_back(std::abs(value));
    std::ranges::sort(sorted);
    for (const double share : {0.01, 0.1, 0.25, 0.5, 0.9, 0.999}) {
      const float exact = sorted[static_cast<size_t>(share * static_cast<double>(sorted.size()))];
      const float quantile = histogram.Quantile(share);
      EXPECT_NEAR(quantile / exact, 1, 1.0 / 64) << share;
      EXPECT_NEAR(histogram.ShareBelow(quantile), share, 1e-6) << share;
      const auto below = std::ranges::count_if(sorted, [=](float value) { return value < quantile; });
      EXPECT_NEAR(static_cast<double>(below) / static_cast<double>(sorted.size()), share, 2e-3) << share;
    }
  }
}

TEST(MagnitudeHistogram, MergedIsAsAddedTogether) {
  const std::vector<float> a = NormalValues(1'000, 1, 1), b = NormalValues(3'000, 20, 2);
  MagnitudeHistogram first, second, both;
  first.Add(a);
  second.Add(b);
  both.Add(a);
  both.Add(b);
  first.Merge(second);
  EXPECT_EQ(first.count(), 4'000u);
  for (const double share : {0.1, 0.5, 0.9}) EXPECT_EQ(first.Quantile(share), both.Quantile(share));
}

TEST(MagnitudeHistogram, TakesWhatIsNoUsualNumber) {
  MagnitudeHistogram histogram;
  EXPECT_EQ(histogram.Quantile(0.5), 0);
  EXPECT_EQ(histogram.ShareBelow(1), 0);
  const float infinity = std::numeric_limits<float>::infinity();
  histogram.Add(std::vector<float>{0, -0.0f, 1e-30f, -1, infinity, -infinity, NAN, 1e38f});
  EXPECT_EQ(histogram.count(), 8u);
  EXPECT_NEAR(histogram.ShareBelow(0.5f), 3.0 / 8, 1e-12);
  EXPECT_NEAR(histogram.ShareBelow(2), 4.0 / 8, 1e-12);
  EXPECT_LE(histogram.Quantile(0.25), 0x1p-40f);
}

}  // namespace
}  // namespace thermocline
