// How many warps stream rows on a device: sized by its multiprocessors and their shared memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels_cuda/backend.h"

namespace thermocline::TC_GPU_NAMESPACE {

// Of a block. For more than four tokens the sums need registers.
inline constexpr int kMostStreamWarps = 16;
constexpr int StreamWarpsFor(int64_t n_tokens) {
  return n_tokens <= 4 ? kMostStreamWarps : kMostStreamWarps / 2;
}
// Columns of a row that a warp streams: offsets of inputs in shared memory stay within 32 bits.
inline constexpr int64_t kMostStreamColumns = int64_t{1} << 24;

// One block a multiprocessor.
struct StreamLaunch {
  int blocks = 0;
  int warps = 0;            // of a block
  int input_bytes = 0;      // of shared memory, for one token's input; 0: it stays in device memory
  size_t shared_bytes = 0;  // of a block: the input, the warps' rings, then `other_bytes`
};

// For rows of `cols` columns. aligned: whether rows and inputs can be read 16 bytes at a time. Every warp
// takes ring_bytes, every block other_bytes.
absl::StatusOr<StreamLaunch> PlanStreams(GpuStream stream, int64_t cols, int64_t n_tokens, bool aligned,
                                         int64_t ring_bytes, int64_t other_bytes);

}  // namespace thermocline::TC_GPU_NAMESPACE
