// Greedy allocation: how much of each input of each layer to leave out, so that a share of the weights is
// skipped.
// SPDX-License-Identifier: Apache-2.0
//
// Within a layer as in TEAL (2024), algorithm 1: every step skips as many more weights of one input's
// products, so that the share of a small product's input rises faster than that of a large one's; it is taken
// where the layer's output then has the least error. Steps of the layers, which are alike, are then taken
// wherever they cost least.
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <span>
#include <vector>

namespace thermocline {

// No share is raised above this.
inline constexpr double kMostShare = 0.95;

struct AllocationStep {
  std::vector<double> shares;  // of each input
  double error = 0;            // of the layer's output
};

// sizes: weights of the products of each input, those with 0 are left alone. error: of the layer's output
// with these shares of the inputs left out. Returns what each step leads to, of which each skips `step` of
// all weights: nothing left out first, then up to `steps` more, fewer where no share can be raised any more.
std::vector<AllocationStep> AllocateGreedily(std::span<const int64_t> sizes, double step, int steps,
                                             absl::FunctionRef<double(std::span<const double> shares)> error);

// costs: (layers, steps of the layer + 1), of each layer behind so many steps. Takes `steps` steps, each in
// the layer whose cost it raises least, fewer where there are no more, and returns those of each layer.
std::vector<size_t> SpreadSteps(std::span<const std::vector<double>> costs, size_t steps);

// Of all weights, with these shares of the inputs left out.
double SkippedShare(std::span<const int64_t> sizes, std::span<const double> shares);

}  // namespace thermocline
