// Streams of rows through a warp's own ring of shared memory, and their products with inputs.
// SPDX-License-Identifier: Apache-2.0
//
// A warp multiplies whole rows, two at a time, which halves what it reads of the inputs. Pieces of about 1
// KiB of each row are copied into its ring (asynchronously from compute capability 8.0 on) three ahead of the
// one that is multiplied, also across the end of a row: 6 KiB a warp in flight, without registers. Sixteen
// warps a multiprocessor so have twice the 40 KiB that the latency of an H200's memory asks for.
//
// The sum of one (row, token) pair: each lane its columns of every step, ascending, then the lanes by a
// butterfly. It does not depend on companions, nor on which of the paths below is taken.
#pragma once

#include "kernels_cuda/backend.h"
#include "kernels_cuda/device_support.cuh"
#include "kernels_cuda/weight_codecs.cuh"

namespace thermocline::TC_GPU_NAMESPACE {

inline constexpr int kStreamRows = 2;    // multiplied at a time
inline constexpr int kStreamDepth = 4;   // pieces of each in the ring
inline constexpr int kSlotBytes = 1168;  // the longest piece, 1152, and the word that a codec may read behind
inline constexpr int kRingBytes = kStreamRows * kStreamDepth * kSlotBytes;

// A place in shared memory as copies take it.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
using SharedPlace = uint32_t;
__device__ __forceinline__ SharedPlace PlaceOf(std::byte* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}
// Copies 16 bytes to shared memory; they are there once the group they were committed in has been waited for.
__device__ __forceinline__ void CopyAsync16(SharedPlace place, const void* source) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(place), "l"(source) : "memory");
}
#else
using SharedPlace = std::byte*;
__device__ __forceinline__ SharedPlace PlaceOf(std::byte* shared) { return shared; }
__device__ __forceinline__ void CopyAsync16(SharedPlace place, const void* source) {
  *reinterpret_cast<uint4*>(place) = *reinterpret_cast<const uint4*>(source);
}
#endif

__device__ __forceinline__ void CommitCopies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until no more than the last `pending` groups are under way.
template <int pending>
__device__ __forceinline__ void WaitForCopies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Starts the copy of kBytes of a row, of which `left` are there. kAligned: source and left are multiples of
// 16; else of 2, and zeros follow the row. place: of slot.
template <int kBytes, bool kAligned>
__device__ __forceinline__ void StageBytes(const std::byte* source, int left, int lane, SharedPlace place,
                                           std::byte* slot) {
  if (kAligned) {
#pragma unroll
    for (int i = 0; i < kBytes; i += kWarpLanes * 16) {
      const int at = i + lane * 16;
      if (at < left && (i + kWarpLanes * 16 <= kBytes || at < kBytes)) CopyAsync16(place + at, source + at);
    }
  } else {
    for (int at = lane * 2; at < kBytes; at += kWarpLanes * 2) {
      uint16_t value = 0;
      if (at < left) value = *reinterpret_cast<const uint16_t*>(source + at);
      *reinterpret_cast<uint16_t*>(slot + at) = value;
    }
  }
}

// Inputs in device memory: all tokens' rows, which the first-level cache keeps while a block's warps walk the
// columns together.
template <bool kAligned>
struct DeviceInputs {
  const float* data;
  int64_t stride;
  int cols;

  // Token t's quads of a lane.
  template <class Codec>
  __device__ __forceinline__ void Load(int t, int step, int lane, float4 (&x)[Codec::kQuads]) const {
    const float* row = data + t * stride;
#pragma unroll
    for (int k = 0; k < Codec::kQuads; ++k)
      x[k] = Load4<kAligned>(row, 4 * (step * Codec::kQuads * kWarpLanes + Codec::Quad(lane, k)), cols);
  }
};

// One token's input in shared memory. Its quads are shuffled so that the eight lanes that a transaction
// serves meet different banks, whichever quads a codec gives them.
struct SharedInput {
  const float4* quads;

  static __device__ __forceinline__ int Shuffled(int quad) {
    return quad ^ (quad >> 3 & 1) ^ (quad >> 4 & 1) << 2;
  }

  // By all threads of a block, before its next barrier. x is aligned to 16 bytes, cols to 4.
  static __device__ __forceinline__ void Fill(const float* x, int cols, float4* quads) {
    const int count = (cols + kStepColumns - 1) / kStepColumns * (kStepColumns / 4);
    for (int i = threadIdx.x; i < count; i += blockDim.x)
      quads[Shuffled(i)] = Load4<true>(x, int64_t{4} * i, cols);
  }

  template <class Codec>
  __device__ __forceinline__ void Load(int, int step, int lane, float4 (&x)[Codec::kQuads]) const {
#pragma unroll
    for (int k = 0; k < Codec::kQuads; ++k)
      x[k] = quads[step * Codec::kQuads * kWarpLanes + Shuffled(Codec::Quad(lane, k))];
  }
};

// By all lanes of a warp: for j = 0 .. count, ascending, emit(j, value), where lane t holds row_of(j) . x of
// token t if bit t of needed_of(j) is set. Rows are cols elements of row_bytes.
template <class Codec, int kTokens, bool kAligned, class Inputs, class RowOf, class NeededOf, class Emit>
__device__ __forceinline__ void StreamProducts(int count, int cols, int row_bytes, const Inputs& inputs,
                                               std::byte* ring, const RowOf& row_of,
                                               const NeededOf& needed_of, const Emit& emit) {
  constexpr int kStepQuads = Codec::kQuads * kWarpLanes, kProductColumns = 4 * kStepQuads;
  constexpr int kProductBytes = Codec::kStepBytes * (kProductColumns / kStepColumns);
  constexpr int kSteps = Codec::kSegmentBytes / kProductBytes;
  static_assert(kSteps * kProductBytes == Codec::kSegmentBytes && Codec::kSegmentBytes + 16 <= kSlotBytes);
  constexpr int kTurn = kStreamRows * kSlotBytes;  // of the ring: a piece of each row
  const int lane = threadIdx.x % kWarpLanes;
  const int segments = (row_bytes + Codec::kSegmentBytes - 1) / Codec::kSegmentBytes;
  const SharedPlace first_place = PlaceOf(ring);
  const std::byte* source[kStreamRows] = {};
  int fetched_row = 0, left = 0;  // bytes of that row
  const auto fetch = [&](int turn) {
    if (fetched_row < count) {
      const bool pair = fetched_row + 1 < count;
      if (left <= 0) {
        source[0] = row_of(fetched_row);
        source[1] = pair ? row_of(fetched_row + 1) : source[0];
        left = row_bytes;
      }
#pragma unroll
      for (int r = 0; r < kStreamRows; ++r) {
        const int at = turn + r * kSlotBytes;
        if (r == 0 || pair)
          StageBytes<Codec::kSegmentBytes, kAligned>(source[r], left, lane, first_place + at, ring + at);
        source[r] += Codec::kSegmentBytes;
      }
      left -= Codec::kSegmentBytes;
      if (left <= 0) fetched_row += kStreamRows;
    }
    CommitCopies();  // perhaps an empty group: they are counted
  };
  for (int i = 0; i < kStreamDepth - 1; ++i) fetch(i * kTurn);

  int turn = 0, fetched_turn = (kStreamDepth - 1) * kTurn;
  for (int row = 0; row < count; row += kStreamRows) {
    const bool pair = row + 1 < count;
    unsigned needed = 1;
    if constexpr (kTokens > 1) needed = needed_of(row) | (pair ? needed_of(row + 1) : 0u);
    float sums[kStreamRows][kTokens] = {};
    for (int segment = 0; segment < segments; ++segment) {
      WaitForCopies<kStreamDepth - 2>();
      __syncwarp();  // every lane's copies of this piece are there, and its readers of the last one are done
      fetch(fetched_turn);
      fetched_turn = turn;
      const std::byte* const piece = ring + turn;
#pragma unroll(kTokens == 1 ? kSteps : 1)
      for (int s = 0; s < kSteps; ++s) {
        const int step = segment * kSteps + s;
        if (4 * (step * kStepQuads + Codec::Quad(lane, 0)) < cols) {
          LaneWeights<Codec> weights[kStreamRows];
#pragma unroll
          for (int r = 0; r < kStreamRows; ++r)
            weights[r].Decode(piece + r * kSlotBytes + s * kProductBytes, lane);
#pragma unroll
          for (int t = 0; t < kTokens; ++t) {
            if (kTokens > 1 && (needed >> t & 1) == 0) continue;
            float4 x[Codec::kQuads];
            inputs.template Load<Codec>(t, step, lane, x);
#pragma unroll
            for (int r = 0; r < kStreamRows; ++r) sums[r][t] = weights[r].AddProducts(x, sums[r][t]);
          }
        }
      }
      turn = turn == (kStreamDepth - 1) * kTurn ? 0 : turn + kTurn;
    }
#pragma unroll
    for (int r = 0; r < kStreamRows; ++r) {
      if (r == 1 && !pair) break;
      float value = 0.0f;
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (kTokens > 1 && (needed >> t & 1) == 0) continue;
        const float sum = WarpSum(sums[r][t]);
        if (lane == t) value = sum;
      }
      emit(row + r, value);
    }
  }
  WaitForCopies<0>();
  __syncwarp();
}

}  // namespace thermocline::TC_GPU_NAMESPACE
