// How attention divides its work: fixed splits of the context, and tokens that share a launch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace thermocline {

inline constexpr int64_t kMostAttentionHeadWidth = 256;

// Positions of a split. Fixed, so that the order of a token's sums hangs on nothing but its position. 64
// positions of 128 floats are 64 KiB of keys and values: enough to outweigh a block's start, and little
// enough that 4096 positions of 8 KV heads make 512 blocks.
inline constexpr int64_t kAttentionSplit = 64;

// Partial results (of a token, head and split) that one launch leaves in scratch, unless a single token has
// more. Bounds the scratch of long prefill steps; at 8 heads a block these are 2048 blocks, which fill any
// device.
inline constexpr int64_t kAttentionPartials = 16384;

inline int64_t AttentionSplits(int64_t positions) {
  return (positions + kAttentionSplit - 1) / kAttentionSplit;
}

// Floats of a head's partial result: a multiple of four, so that all of them are aligned.
inline int64_t AttentionPartialWidth(int64_t d_head) { return (d_head + 3) / 4 * 4; }

inline int64_t AttentionTokensOfLaunch(int64_t n_tokens, int64_t n_heads, int64_t most_positions) {
  const int64_t fit = kAttentionPartials / (n_heads * AttentionSplits(most_positions));
  return std::clamp<int64_t>(fit, 1, n_tokens);
}

}  // namespace thermocline
