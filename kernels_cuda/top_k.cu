// The k likeliest of a row: blocks find those of pieces, then a warp merges the pieces' sorted lists.
// SPDX-License-Identifier: Apache-2.0
//
// A logit and its id make one 64-bit key whose order is the result's: the value's bits, mapped so that they
// order as numbers do, above the complement of the id, so that equal values go by the lower id. Key 0 is no
// logit: no value has it, and NaN never gets another.
//
// Floor: 4 bytes a logit, read once: 1.2 MB of 300,000, which 74 blocks read with four 16-byte loads a
// thread. Each further place costs a block one barrier.
#include <cmath>

#include "kernels_cuda/backend.h"
#include "kernels_cuda/device_support.cuh"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"
#include "kernels_cuda/top_k_pieces.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

using Key = unsigned long long;  // the type that shuffles take

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpLanes;
constexpr int kQuads = static_cast<int>(kTopKPiece) / (4 * kThreads);  // groups of four logits of a thread
constexpr int kListsOfLane = static_cast<int>(kMostTopKPieces) / kWarpLanes;

__device__ __forceinline__ Key KeyOf(float value, int64_t id) {
  const unsigned bits = __float_as_uint(value + 0.0f);  // -0 and 0 are equal
  const unsigned ordered = bits ^ (bits >> 31 != 0 ? 0xFFFFFFFFu : 0x80000000u);
  return Key{ordered} << 32 | (0xFFFFFFFFu - static_cast<unsigned>(id));
}

__device__ __forceinline__ int64_t IdOf(Key key) { return 0xFFFFFFFFu - static_cast<unsigned>(key); }

__device__ __forceinline__ Key WarpMaxKey(Key key) {
#pragma unroll
  for (int mask = kWarpLanes / 2; mask > 0; mask /= 2) {
    const Key other = __shfl_xor_sync(kFullWarp, key, mask);
    if (other > key) key = other;
  }
  return key;
}

// A thread's logits of a piece: quad q holds the ids first + 4 * kThreads * q .. + 3, so ids ascend.
struct OwnLogits {
  float values[4 * kQuads];
  unsigned open;  // bit i: value i may be taken

  __device__ __forceinline__ Key Best(int64_t first) const {
    int best = -1;
    float best_value = 0.0f;
#pragma unroll
    for (int i = 0; i < 4 * kQuads; ++i) {
      if ((open >> i & 1u) != 0 && (best < 0 || values[i] > best_value)) {
        best = i;
        best_value = values[i];
      }
    }
    return best < 0 ? 0 : KeyOf(best_value, first + best / 4 * (4 * kThreads) + best % 4);
  }
};

// Grid: (pieces, rows). lists: (rows, pieces, k), each list descending, ended by zeros where it is short.
template <bool kVector>
__global__ void __launch_bounds__(kThreads) TopOfPieces(MatrixView<const float> logits, int k, Key* lists) {
  __shared__ Key warp_best[2][kWarps];
  const float* row = logits.data + blockIdx.y * logits.stride;
  const int64_t first = blockIdx.x * kTopKPiece + 4 * static_cast<int64_t>(threadIdx.x);
  OwnLogits own;
  own.open = 0;
#pragma unroll
  for (int q = 0; q < kQuads; ++q) {
    const float4 quad = Load4<kVector>(row, first + q * (4 * kThreads), logits.cols);
    own.values[4 * q] = quad.x;
    own.values[4 * q + 1] = quad.y;
    own.values[4 * q + 2] = quad.z;
    own.values[4 * q + 3] = quad.w;
  }
#pragma unroll
  for (int i = 0; i < 4 * kQuads; ++i) {
    const bool exists = first + i / 4 * (4 * kThreads) + i % 4 < logits.cols;
    if (exists && own.values[i] == own.values[i]) own.open |= 1u << i;
  }
  const int warp = threadIdx.x / kWarpLanes;
  Key own_best = own.Best(first);
  Key best = WarpMaxKey(own_best);
  Key* list = lists + (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * k;
  for (int place = 0; place < k; ++place) {
    if (threadIdx.x % kWarpLanes == 0) warp_best[place % 2][warp] = best;
    __syncthreads();
    Key top = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      if (warp_best[place % 2][w] > top) top = warp_best[place % 2][w];
    }
    if (threadIdx.x == 0) list[place] = top;
    if (top != 0 && best == top) {  // the same in all lanes
      if (own_best == top) {
        const int at = static_cast<int>(IdOf(top) - first);
        own.open &= ~(1u << (at / (4 * kThreads) * 4 + at % 4));
        own_best = own.Best(first);
      }
      best = WarpMaxKey(own_best);
    }
  }
}

// Grid: (rows), a warp each; lane l follows the lists l, l + 32, ...
__global__ void __launch_bounds__(kWarpLanes)
    MergePieces(MatrixView<const float> logits, int pieces, const Key* lists, MatrixView<int32_t> ids,
                MatrixView<float> values) {
  const int k = static_cast<int>(ids.cols);
  const int lane = threadIdx.x;
  const Key* row_lists = lists + static_cast<int64_t>(blockIdx.x) * pieces * k;
  Key heads[kListsOfLane];
  int places[kListsOfLane];
#pragma unroll
  for (int j = 0; j < kListsOfLane; ++j) {
    const int piece = lane + j * kWarpLanes;
    heads[j] = piece < pieces ? row_lists[piece * k] : 0;
    places[j] = 0;
  }
  for (int place = 0; place < k; ++place) {
    Key best = 0;
#pragma unroll
    for (int j = 0; j < kListsOfLane; ++j)
      if (heads[j] > best) best = heads[j];
    const Key top = WarpMaxKey(best);
    if (lane == 0) {
      const int64_t id = top == 0 ? -1 : IdOf(top);
      ids.data[blockIdx.x * ids.stride + place] = static_cast<int32_t>(id);
      values.data[blockIdx.x * values.stride + place] =
          id < 0 ? -INFINITY : logits.data[blockIdx.x * logits.stride + id];
    }
#pragma unroll
    for (int j = 0; j < kListsOfLane; ++j) {
      if (top == 0 || heads[j] != top) continue;
      ++places[j];
      heads[j] = places[j] < k ? row_lists[(lane + j * kWarpLanes) * k + places[j]] : 0;
    }
  }
}

}  // namespace

absl::Status TopK(MatrixView<const float> logits, MatrixView<int32_t> ids, MatrixView<float> values,
                  std::span<float> scratch, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckView("top_k: logits", logits));
  const int64_t k = ids.cols, pieces = TopKPieces(logits.cols);
  if (k < 1 || k > kMostTopK) return InvalidArgument("top_k: k is {}, allowed are 1 to {}", k, kMostTopK);
  if (pieces > kMostTopKPieces) {
    return InvalidArgument("top_k: {} columns, allowed are 1 to {}", logits.cols,
                           kMostTopKPieces * kTopKPiece);
  }
  if (logits.rows > kMostGpuTokens)
    return InvalidArgument("top_k: {} rows, allowed are 1 to {}", logits.rows, kMostGpuTokens);
  TC_RETURN_IF_ERROR(CheckView("top_k: ids", ids, logits.rows, k));
  TC_RETURN_IF_ERROR(CheckView("top_k: values", values, logits.rows, k));
  TC_RETURN_IF_ERROR(CheckScratch("top_k", scratch, GpuTopKScratch(logits.rows, logits.cols, k)));
  auto* const lists = reinterpret_cast<Key*>(scratch.data());
  const auto kernel = IsFloat4View(logits) ? TopOfPieces<true> : TopOfPieces<false>;
  const dim3 grid(static_cast<unsigned>(pieces), static_cast<unsigned>(logits.rows));
  TC_RETURN_IF_ERROR(
      Launch("TopOfPieces", kernel, grid, kThreads, 0, stream, logits, static_cast<int>(k), lists));
  return TC_LAUNCH(MergePieces, static_cast<unsigned>(logits.rows), kWarpLanes, 0, stream, logits,
                   static_cast<int>(pieces), static_cast<const Key*>(lists), ids, values);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
