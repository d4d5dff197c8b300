// The fixed ranges over which sums of neurons are taken, and the sum of the ranges, for the operators here.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/matrix.h"
#include "kernels_cpu/parallel.h"

namespace thermocline {

inline constexpr int64_t kNeuronRanges = 32;  // partial sums of a table

// The neurons of range r: fixed by the table's size alone, so that the sums are too. The last ones may be
// empty.
struct NeuronRange {
  int64_t begin;
  int64_t count;
};
NeuronRange RangeOfNeurons(int64_t n_neurons, int64_t r);

// y = 0 + the sums of some ranges, one after the other. sums: (any number * n_tokens, d_model), sum s from
// row s * n_tokens on; listed: those to be added. y: (n_tokens, d_model). Sums of zeros may be left out: a
// sum that starts from zero is never -0, so that adding zeros would not change it.
void SumRanges(const CpuContext& context, MatrixView<const float> sums, std::span<const int64_t> listed,
               MatrixView<float> y);

}  // namespace thermocline
