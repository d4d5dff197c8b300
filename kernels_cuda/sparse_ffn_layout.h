// Where the neuron-aware feed-forward block keeps what its two kernels hand over.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace thermocline {

// The down product sums each token's neurons in 128 fixed stripes, a warp each: groups of eight neurons go to
// the stripes in turn, so that clusters of active neurons spread over them. Eight stripes, of one block, are
// added in shared memory; the 16 slices that they make, through scratch.
inline constexpr int64_t kFfnSlices = 16;
inline constexpr int64_t kFfnWarps = 8;
inline constexpr int64_t kFfnStripes = kFfnSlices * kFfnWarps;
inline constexpr int64_t kFfnTileColumns = 256;  // of a block

// Offsets into the scratch, in floats, all multiples of 4.
struct SparseFfnLayout {
  int64_t hidden_stride = 0;  // values of a neuron, one for each token, zeros up to a multiple of 4
  int64_t partials = 0;       // (kFfnSlices, n_tokens, d_model), after the hidden values
  int64_t live = 0;           // a token mask for each neuron: whose hidden value is added; whole groups
  int64_t finished = 0;       // a counter for each tile of columns: the slices that are there
  int64_t tiles = 0;
  int64_t size = 0;

  SparseFfnLayout(int64_t n_tokens, int64_t n_neurons, int64_t d_model) {
    const auto up = [](int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; };
    tiles = (d_model + kFfnTileColumns - 1) / kFfnTileColumns;
    hidden_stride = up(n_tokens, 4);
    partials = n_neurons * hidden_stride;
    live = partials + up(kFfnSlices * n_tokens * d_model, 4);
    finished = live + up(n_neurons, 8) / 2;
    size = finished + up(tiles, 4);
  }
};

}  // namespace thermocline
