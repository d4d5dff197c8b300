// Skewness against slow definitions and closed forms.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/skewness.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace thermocline {
namespace {

// Mean absolute difference of all ordered pairs over twice the mean.
double SlowGini(const std::vector<uint64_t>& counts) {
  double differences = 0, total = 0;
  for (const uint64_t a : counts) {
    total += static_cast<double>(a);
    for (const uint64_t b : counts) differences += std::abs(static_cast<double>(a) - static_cast<double>(b));
  }
  const auto n = static_cast<double>(counts.size());
  return differences / (2 * n * n * (total / n));
}

// The least k for which some k neurons reach the share: the best k are found by taking away the least, one by
// one, in whole numbers.
double SlowShare(std::vector<uint64_t> counts, uint64_t percent) {
  uint64_t total = 0;
  for (const uint64_t count : counts) total += count;
  const size_t neurons = counts.size();
  uint64_t left = total;
  while (!counts.empty()) {
    const auto least = std::min_element(counts.begin(), counts.end());
    if (100 * (left - *least) < percent * total) break;
    left -= *least;
    counts.erase(least);
  }
  return static_cast<double>(counts.size()) / static_cast<double>(neurons);
}

// Mean cubed standard score of the frequencies.
double SlowThirdMoment(const std::vector<uint64_t>& counts, int64_t tokens) {
  std::vector<long double> frequencies;
  for (const uint64_t count : counts)
    frequencies.push_back(static_cast<long double>(count) / static_cast<long double>(tokens));
  const auto n = static_cast<long double>(counts.size());
  long double mean = 0, variance = 0, third = 0;
  for (const long double f : frequencies) mean += f / n;
  for (const long double f : frequencies) variance += (f - mean) * (f - mean) / n;
  for (const long double f : frequencies) third += std::pow((f - mean) / std::sqrt(variance), 3.0L) / n;
  return static_cast<double>(third);
}

TEST(Skewness, EqualsTheSlowDefinitions) {
  std::mt19937_64 random(7);
  for (const size_t neurons : {2, 3, 10, 100, 257}) {
    for (const double power : {1.0, 3.0, 12.0}) {  // ever more unequal
      const int64_t tokens = 10000;
      std::vector<uint64_t> counts;
      for (size_t i = 0; i < neurons; ++i) {
        const double uniform = std::uniform_real_distribution<double>(0, 1)(random);
        counts.push_back(static_cast<uint64_t>(std::pow(uniform, power) * static_cast<double>(tokens)));
      }
      counts[0] = 1;
      counts[1] = 9000;
      const Skewness skewness = MeasureSkewness(counts, tokens);
      EXPECT_NEAR(skewness.gini, SlowGini(counts), 1e-12);
      EXPECT_EQ(skewness.share_for_50, SlowShare(counts, 50));
      EXPECT_EQ(skewness.share_for_80, SlowShare(counts, 80));
      EXPECT_EQ(skewness.share_for_90, SlowShare(counts, 90));
      EXPECT_EQ(skewness.share_for_99, SlowShare(counts, 99));
      EXPECT_NEAR(skewness.third_moment, SlowThirdMoment(counts, tokens), 1e-9);
      double silent = 0;
      for (const uint64_t count : counts) silent += static_cast<double>(tokens) - static_cast<double>(count);
      EXPECT_NEAR(skewness.sparsity, silent / static_cast<double>(tokens) / static_cast<double>(neurons),
                  1e-12);
    }
  }
}

TEST(Skewness, AllEqual) {
  for (const uint64_t count : {uint64_t{1}, uint64_t{3}, uint64_t{1000}}) {
    const Skewness skewness = MeasureSkewness(std::vector<uint64_t>(10, count), 1000);
    EXPECT_EQ(skewness.gini, 0);
    EXPECT_EQ(skewness.third_moment, 0);
    EXPECT_EQ(skewness.share_for_50, 0.5);
    EXPECT_EQ(skewness.share_for_80, 0.8);
    EXPECT_EQ(skewness.share_for_90, 0.9);
    EXPECT_EQ(skewness.share_for_99, 1.0);
    EXPECT_NEAR(skewness.sparsity, 1 - static_cast<double>(count) / 1000, 1e-15);
  }
}

TEST(Skewness, OneNeuronMakesAll) {
  std::vector<uint64_t> counts(100);
  counts[42] = 500;
  const Skewness skewness = MeasureSkewness(counts, 1000);
  EXPECT_NEAR(skewness.gini, 0.99, 1e-15);  // 1 - 1/n
  for (const double share :
       {skewness.share_for_50, skewness.share_for_80, skewness.share_for_90, skewness.share_for_99}) {
    EXPECT_EQ(share, 0.01);
  }
  EXPECT_NEAR(skewness.third_moment, 98 / std::sqrt(99.0), 1e-12);  // (n - 2) / sqrt(n - 1)
  EXPECT_NEAR(skewness.sparsity, 1 - 500.0 / (1000 * 100), 1e-15);
}

TEST(Skewness, LinearRamp) {
  std::vector<uint64_t> counts;
  for (uint64_t i = 1; i <= 100; ++i) counts.push_back(i);
  const Skewness skewness = MeasureSkewness(counts, 100);
  EXPECT_NEAR(skewness.gini, 99.0 / 300.0, 1e-15);  // (n - 1) / 3n
  EXPECT_NEAR(skewness.third_moment, 0, 1e-12);
  // The largest k of 1..n add up to k (2n - k + 1) / 2.
  EXPECT_EQ(skewness.share_for_50, 0.30);
  EXPECT_EQ(skewness.share_for_80, 0.56);
  EXPECT_EQ(skewness.share_for_90, 0.69);
  EXPECT_EQ(skewness.share_for_99, 0.91);
}

TEST(Skewness, NothingActiveIsAllSilent) {
  for (const size_t neurons : {size_t{0}, size_t{1}, size_t{5}}) {
    const Skewness skewness = MeasureSkewness(std::vector<uint64_t>(neurons), neurons == 1 ? 0 : 10);
    EXPECT_EQ(skewness.sparsity, 1);
    EXPECT_EQ(skewness.gini, 0);
    EXPECT_EQ(skewness.third_moment, 0);
    EXPECT_EQ(skewness.share_for_50, 0);
    EXPECT_EQ(skewness.share_for_99, 0);
  }
}

TEST(Skewness, OneNeuronAloneIsEqualToItself) {
  const Skewness skewness = MeasureSkewness(std::vector<uint64_t>{7}, 10);
  EXPECT_EQ(skewness.gini, 0);
  EXPECT_EQ(skewness.share_for_50, 1);
  EXPECT_NEAR(skewness.sparsity, 0.3, 1e-15);
}

TEST(Skewness, LargeCountsStayFinite) {
  const uint64_t large = std::numeric_limits<int64_t>::max();
  const Skewness skewness =
      MeasureSkewness(std::vector<uint64_t>{large, 1, 1, 1}, std::numeric_limits<int64_t>::max());
  EXPECT_NEAR(skewness.gini, 0.75, 1e-12);
  EXPECT_NEAR(skewness.third_moment, 2 / std::sqrt(3.0), 1e-12);
}

}  // namespace
}  // namespace thermocline
