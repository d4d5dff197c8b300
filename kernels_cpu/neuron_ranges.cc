// Ranges of neurons and the fixed order in which they are added.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/neuron_ranges.h"

#include <algorithm>

namespace thermocline {
namespace {

constexpr int64_t kPieceColumns = 1024;  // of one token: 32 ranges of them are a piece's 128 KiB

}  // namespace

NeuronRange RangeOfNeurons(int64_t n_neurons, int64_t r) {
  const int64_t per_range = (n_neurons + kNeuronRanges - 1) / kNeuronRanges;
  const int64_t begin = std::min(n_neurons, r * per_range);
  return {begin, std::min(per_range, n_neurons - begin)};
}

void SumRanges(const CpuContext& context, MatrixView<const float> sums, std::span<const int64_t> listed,
               MatrixView<float> y) {
  const int64_t pieces_of_token = (y.cols + kPieceColumns - 1) / kPieceColumns;
  context.team->ParallelFor(y.rows * pieces_of_token, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; ++piece) {
      const int64_t token = piece / pieces_of_token;
      const int64_t column = piece % pieces_of_token * kPieceColumns;
      const int64_t columns = std::min(kPieceColumns, y.cols - column);
      const std::span<float> out = y.Columns(column, columns).row(token);
      std::ranges::fill(out, 0.0f);
      for (const int64_t s : listed)
        context.kernels->add(sums.Columns(column, columns).row(s * y.rows + token), out);
    }
  });
}

}  // namespace thermocline
