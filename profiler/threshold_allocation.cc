// Greedy allocation of shares and of steps.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/threshold_allocation.h"

#include <limits>
#include <numeric>
#include <utility>

namespace thermocline {
namespace {

constexpr double kRounding = 1e-9;  // of sums of steps
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

std::vector<AllocationStep> AllocateGreedily(
    std::span<const int64_t> sizes, double step, int steps,
    absl::FunctionRef<double(std::span<const double> shares)> error) {
  const auto all = static_cast<double>(std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
  std::vector<AllocationStep> taken(1, {.shares = std::vector<double>(sizes.size())});
  while (static_cast<int>(taken.size()) <= steps) {
    AllocationStep best{.error = kInfinity};
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (sizes[i] == 0) continue;
      AllocationStep candidate{.shares = taken.back().shares};
      candidate.shares[i] += step * all / static_cast<double>(sizes[i]);
      if (candidate.shares[i] > kMostShare + kRounding) continue;
      candidate.error = error(candidate.shares);
      if (candidate.error < best.error) best = std::move(candidate);
    }
    if (best.shares.empty()) break;
    taken.push_back(std::move(best));
  }
  return taken;
}

std::vector<size_t> SpreadSteps(std::span<const std::vector<double>> costs, size_t steps) {
  std::vector<size_t> taken(costs.size());
  for (size_t s = 0; s < steps; ++s) {
    size_t best = costs.size();
    double least = kInfinity;
    for (size_t l = 0; l < costs.size(); ++l) {
      if (taken[l] + 1 >= costs[l].size()) continue;
      const double more = costs[l][taken[l] + 1] - costs[l][taken[l]];
      if (more < least) {
        least = more;
        best = l;
      }
    }
    if (best == costs.size()) break;
    ++taken[best];
  }
  return taken;
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
