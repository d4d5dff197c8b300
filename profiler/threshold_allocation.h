// Greedy allocation: how much of each input of a layer to leave out, so that a share of its weights is
// skipped.
// SPDX-License-Identifier: Apache-2.0
//
// TEAL (2024), algorithm 1: every step skips as many more weights of one input's products, so that the share
// of a small product's input rises faster than that of a large one's; it is taken where the layer's output
// then has the least error.
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <span>
#include <vector>

namespace thermocline {

// No share is raised above this.
inline constexpr double kMostShare = 0.95;

// sizes: weights of the products of each input, those with 0 are left alone. error: of the layer's output
// with these shares of the inputs left out. Returns shares that skip `target` of all weights in `steps` equal
// steps, or less where no share can be raised any more.
std::vector<double> AllocateGreedily(std::span<const int64_t> sizes, double target, int steps,
                                     absl::FunctionRef<double(std::span<const double> shares)> error);

// Of all weights, with these shares of the inputs left out.
double SkippedShare(std::span<const int64_t> sizes, std::span<const double> shares);

}  // namespace thermocline
