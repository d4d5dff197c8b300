// Shares, Gini coefficient and third moment of a layer's counts.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/skewness.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "core/status.h"

namespace thermocline {
namespace {

// `descending` adds up to `total` > 0.
double ShareFor(std::span<const uint64_t> descending, double total, int percent) {
  double sum = 0;
  size_t neurons = 0;
  // 100 * sum and percent * total are exact below 2^46 activations, so that a share met exactly is met.
  while (neurons < descending.size() && 100 * sum < percent * total)
    sum += static_cast<double>(descending[neurons++]);
  return static_cast<double>(neurons) / static_cast<double>(descending.size());
}

// Sum over all pairs of |a - b|, over twice the pairs and the mean: in sorted order each count is the larger
// of as many pairs as counts come after it.
double Gini(std::span<const uint64_t> descending, double total) {
  const auto n = static_cast<double>(descending.size());
  double weighted = 0;
  for (size_t i = 0; i < descending.size(); ++i)
    weighted += (n - 1 - 2 * static_cast<double>(i)) * static_cast<double>(descending[i]);
  return weighted / (n * total);
}

double ThirdMoment(std::span<const uint64_t> counts, double total) {
  const auto n = static_cast<double>(counts.size());
  const double mean = total / n;
  double squares = 0, cubes = 0;
  for (const uint64_t count : counts) {
    const double deviation = static_cast<double>(count) - mean;
    squares += deviation * deviation;
    cubes += deviation * deviation * deviation;
  }
  return cubes / n / std::pow(squares / n, 1.5);
}

}  // namespace

Skewness MeasureSkewness(std::span<const uint64_t> counts, int64_t tokens) {
  Skewness skewness;
  double total = 0;
  for (const uint64_t count : counts) total += static_cast<double>(count);
  if (total == 0) return {.sparsity = 1};
  TC_CHECK(tokens > 0);
  std::vector<uint64_t> descending(counts.begin(), counts.end());
  std::ranges::sort(descending, std::greater<>());
  skewness.sparsity = 1 - total / (static_cast<double>(tokens) * static_cast<double>(counts.size()));
  skewness.share_for_50 = ShareFor(descending, total, 50);
  skewness.share_for_80 = ShareFor(descending, total, 80);
  skewness.share_for_90 = ShareFor(descending, total, 90);
  skewness.share_for_99 = ShareFor(descending, total, 99);
  // All equal: the mean may be off by a rounding, which a moment of nothing but roundings would blow up.
  if (descending.front() == descending.back()) return skewness;
  skewness.gini = Gini(descending, total);
  skewness.third_moment = ThirdMoment(descending, total);
  return skewness;
}

}  // namespace thermocline
