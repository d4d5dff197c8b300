// Streams of rows through a warp's own ring of shared memory, and their products with inputs.
// SPDX-License-Identifier: Apache-2.0
//
// A warp multiplies whole rows, two at a time, which halves what it reads of the inputs. Pieces of about 1
// KiB of each row are copied into its ring (asynchronously from compute capability 8.0 on) three ahead of the
// one that is multiplied, also across the end of a row: 6 KiB a warp in flight, without registers. Sixteen
// warps a multiprocessor so have twice the 40 KiB that the latency of an H200's memory asks for.
//
// The sum of one (row, token) pair: each lane its eight columns of every step of 256, ascending, then the
// lanes by a butterfly. It does not depend on companions, nor on which of the paths below is taken.
#pragma once

#include "kernels_cuda/backend.h"
#include "kernels_cuda/device_support.cuh"
#include "kernels_cuda/weight_codecs.cuh"

namespace thermocline::TC_GPU_NAMESPACE {

inline constexpr int kStreamRows = 2;    // multiplied at a time
inline constexpr int kStreamDepth = 4;   // pieces of each in the ring
inline constexpr int kSlotBytes = 1168;  // the longest piece, 1152, and the word that a codec may read behind
inline constexpr int kRingBytes = kStreamRows * kStreamDepth * kSlotBytes;

// Copies 16 bytes to shared memory; they are there once the group they were committed in has been waited for.
__device__ __forceinline__ void CopyAsync16(std::byte* shared, const void* source) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(source)
               : "memory");
#else
  *reinterpret_cast<uint4*>(shared) = *reinterpret_cast<const uint4*>(source);
#endif
}

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

// Starts the copy of a row's bytes [begin, begin + kBytes), as far as the row goes. kAligned: row, begin and
// row_bytes are multiples of 16; else of 2, and zeros follow the row.
template <int kBytes, bool kAligned>
__device__ __forceinline__ void StageBytes(const std::byte* row, int64_t begin, int64_t row_bytes, int lane,
                                           std::byte* slot) {
  if (kAligned) {
#pragma unroll
    for (int i = 0; i < kBytes; i += kWarpLanes * 16) {
      const int at = i + lane * 16;
      if (at < kBytes && begin + at < row_bytes) CopyAsync16(slot + at, row + begin + at);
    }
  } else {
    for (int at = lane * 2; at < kBytes; at += kWarpLanes * 2) {
      uint16_t value = 0;
      if (begin + at < row_bytes) value = *reinterpret_cast<const uint16_t*>(row + begin + at);
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

  __device__ __forceinline__ void Load(int t, int step, int lane, float (&x)[kLaneColumns]) const {
    const float* row = data + t * stride;
    const int64_t column = static_cast<int64_t>(step) * kStepColumns + lane * kLaneColumns;
    const float4 first = Load4<kAligned>(row, column, cols), second = Load4<kAligned>(row, column + 4, cols);
    x[0] = first.x, x[1] = first.y, x[2] = first.z, x[3] = first.w;
    x[4] = second.x, x[5] = second.y, x[6] = second.z, x[7] = second.w;
  }
};

// One token's input in shared memory, each lane's quads where lanes side by side read banks side by side.
struct SharedInput {
  const float4* quads;  // of a step: the lanes' first, then their second

  static int Bytes(int64_t cols) {
    return static_cast<int>((cols + kStepColumns - 1) / kStepColumns * kStepColumns * 4);
  }

  // By all threads of a block, before its next barrier. x is aligned to 16 bytes, cols to 4.
  static __device__ __forceinline__ void Fill(const float* x, int cols, float4* quads) {
    const int count = (cols + kStepColumns - 1) / kStepColumns * (kStepColumns / 4);
    for (int i = threadIdx.x; i < count; i += blockDim.x)
      quads[i / 64 * 64 + i % 2 * kWarpLanes + i % 64 / 2] = Load4<true>(x, int64_t{4} * i, cols);
  }

  __device__ __forceinline__ void Load(int, int step, int lane, float (&x)[kLaneColumns]) const {
    const float4 first = quads[step * 64 + lane], second = quads[step * 64 + kWarpLanes + lane];
    x[0] = first.x, x[1] = first.y, x[2] = first.z, x[3] = first.w;
    x[4] = second.x, x[5] = second.y, x[6] = second.z, x[7] = second.w;
  }
};

template <class Codec>
__device__ __forceinline__ float AddProducts(const float (&w)[kLaneColumns], const float (&x)[kLaneColumns],
                                             float scale, float sum) {
  float part = Codec::kScaled ? 0.0f : sum;
#pragma unroll
  for (int i = 0; i < kLaneColumns; ++i) part = __fmaf_rn(w[i], x[i], part);
  return Codec::kScaled ? __fmaf_rn(scale, part, sum) : part;
}

// By all lanes of a warp: for j = 0 .. count, ascending, emit(j, value), where lane t holds row_of(j) . x of
// token t if bit t of needed_of(j) is set. Rows are cols elements of row_bytes.
template <class Codec, int kTokens, bool kAligned, class Inputs, class RowOf, class NeededOf, class Emit>
__device__ __forceinline__ void StreamProducts(int count, int cols, int64_t row_bytes, const Inputs& inputs,
                                               std::byte* ring, const RowOf& row_of,
                                               const NeededOf& needed_of, const Emit& emit) {
  constexpr int kSegmentBytes = Codec::kSegmentSteps * Codec::kStepBytes;
  constexpr int kSegmentColumns = Codec::kSegmentSteps * kStepColumns;
  static_assert(kSegmentBytes + 16 <= kSlotBytes);
  const int lane = threadIdx.x % kWarpLanes;
  const int segments = (cols + kSegmentColumns - 1) / kSegmentColumns;
  int fetched_row = 0, fetched_segment = 0;
  const auto fetch = [&](int place) {
    if (fetched_row < count) {
#pragma unroll
      for (int r = 0; r < kStreamRows; ++r) {
        if (fetched_row + r < count) {
          StageBytes<kSegmentBytes, kAligned>(row_of(fetched_row + r),
                                              static_cast<int64_t>(fetched_segment) * kSegmentBytes,
                                              row_bytes, lane, ring + (place * kStreamRows + r) * kSlotBytes);
        }
      }
      if (++fetched_segment == segments) {
        fetched_segment = 0;
        fetched_row += kStreamRows;
      }
    }
    CommitCopies();  // perhaps an empty group: they are counted
  };
  for (int place = 0; place < kStreamDepth - 1; ++place) fetch(place);

  int place = 0;
  for (int row = 0; row < count; row += kStreamRows) {
    const bool pair = row + 1 < count;
    const unsigned needed = needed_of(row) | (pair ? needed_of(row + 1) : 0u);
    float sums[kStreamRows][kTokens] = {};
    for (int segment = 0; segment < segments; ++segment) {
      WaitForCopies<kStreamDepth - 2>();
      __syncwarp();  // every lane's copies of this piece are there, and its readers of the last one are done
      fetch((place + kStreamDepth - 1) % kStreamDepth);
#pragma unroll(kTokens == 1 ? Codec::kSegmentSteps : 1)
      for (int s = 0; s < Codec::kSegmentSteps; ++s) {
        const int step = segment * Codec::kSegmentSteps + s;
        if (step * kStepColumns + lane * kLaneColumns < cols) {
          float w[kStreamRows][kLaneColumns], scale[kStreamRows];
#pragma unroll
          for (int r = 0; r < kStreamRows; ++r) {
            scale[r] = Codec::Decode(ring + (place * kStreamRows + r) * kSlotBytes + s * Codec::kStepBytes,
                                     lane, w[r]);
          }
#pragma unroll
          for (int t = 0; t < kTokens; ++t) {
            if (kTokens > 1 && (needed >> t & 1) == 0) continue;
            float x[kLaneColumns];
            inputs.Load(t, step, lane, x);
#pragma unroll
            for (int r = 0; r < kStreamRows; ++r)
              sums[r][t] = AddProducts<Codec>(w[r], x, scale[r], sums[r][t]);
          }
        }
      }
      place = (place + 1) % kStreamDepth;
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
