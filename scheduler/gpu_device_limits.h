// Sizes that GpuDevice's memory and its operators share.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace thermocline {

inline constexpr int64_t kGpuLeastPositions = 256;           // that a launch of attention is sized for
inline constexpr int64_t kGpuLogitRows = 16;                 // that the head computes at a time
inline constexpr int64_t kGpuTileFloats = int64_t{4} << 20;  // of weights expanded at a time for long steps

}  // namespace thermocline
