// Skewness: how unequal the neurons of a layer are.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace thermocline {

struct Skewness {
  double sparsity = 0;      // share of (token, neuron) pairs that are silent
  double share_for_50 = 0;  // least share of neurons that make 50 % of the activations
  double share_for_80 = 0;
  double share_for_90 = 0;
  double share_for_99 = 0;
  double gini = 0;          // of the counts: 0 all equal, towards 1 one neuron makes all
  double third_moment = 0;  // third standardised moment of the frequencies; 0 when they are all equal
};

// counts: (neurons), of `tokens` tokens. All zero when there is no activation (sparsity 1).
Skewness MeasureSkewness(std::span<const uint64_t> counts, int64_t tokens);

}  // namespace thermocline
