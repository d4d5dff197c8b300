// Greedy allocation of shares.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/threshold_allocation.h"

#include <limits>
#include <numeric>

namespace thermocline {
namespace {

constexpr double kRounding = 1e-9;  // of sums of steps

}  // namespace

std::vector<double> AllocateGreedily(std::span<const int64_t> sizes, double target, int steps,
                                     absl::FunctionRef<double(std::span<const double> shares)> error) {
  std::vector<double> shares(sizes.size());
  const auto all = static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
  const double step = target * all / steps;  // weights
  for (int taken = 0; taken < steps; ++taken) {
    size_t best = sizes.size();
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < sizes.size(); ++i) {
      const double before = shares[i], raised = before + step / static_cast<double>(sizes[i]);
      if (sizes[i] == 0 || raised > kMostShare + kRounding) continue;
      shares[i] = raised;
      if (const double cost = error(shares); cost < least) {
        least = cost;
        best = i;
      }
      shares[i] = before;
    }
    if (best == sizes.size()) break;
    shares[best] += step / static_cast<double>(sizes[best]);
  }
  return shares;
}

double SkippedShare(std::span<const int64_t> sizes, std::span<const double> shares) {
  double skipped = 0, all = 0;
  for (size_t i = 0; i < sizes.size(); ++i) {
    skipped += shares[i] * static_cast<double>(sizes[i]);
    all += static_cast<double>(sizes[i]);
  }
  return all > 0 ? skipped / all : 0;
}

}  // namespace thermocline
