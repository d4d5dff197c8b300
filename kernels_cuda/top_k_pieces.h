// How top_k divides a row.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace thermocline {

inline constexpr int64_t kMostTopK = 64;

// Logits of a block. 300,000 make 74 blocks.
inline constexpr int64_t kTopKPiece = 4096;
// As many as the lanes of one warp follow, 8 each: 2^20 logits.
inline constexpr int64_t kMostTopKPieces = 256;

inline int64_t TopKPieces(int64_t cols) { return (cols + kTopKPiece - 1) / kTopKPiece; }

}  // namespace thermocline
