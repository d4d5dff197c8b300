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

// Copies 16 bytes to shared memory; they are there once the group they were committed in has been waited for.
__device__ __forceinline__ void CopyAsync16(SharedPlace place, const void* source) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(place), "l"(source) : "memory");
#else
  *reinterpret_cast<uint4*>(BytesAt(place)) = *reinterpret_cast<const uint4*>(source);
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

// Starts the copy of kBytes of a row, of which `left` are there. kAligned: source and left are multiples of
// 16; else of 2, and zeros follow the row. place: of slot.
template <int kBytes, bool kAligned>
__device__ __forceinline__ void StageBytes(const std::byte* source, int left, int lane, SharedPlace slot) {
  if (kAligned) {
#pragma unroll
    for (int i = 0; i < kBytes; i += kWarpLanes * 16) {
      const int at = i + lane * 16;
      if (at < left && (i + kWarpLanes * 16 <= kBytes || at < kBytes)) CopyAsync16(slot + at, source + at);
    }
  } else {
    for (int at = lane * 2; at < kBytes; at += kWarpLanes * 2) {
      uint16_t value = 0;
      if (at < left) value = *reinterpret_cast<const uint16_t*>(source + at);
      *reinterpret_cast<uint16_t*>(BytesAt(slot + at)) = value;
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

  // A lane's quads of a segment of columns.
  template <class Codec>
  struct Segment {
    const DeviceInputs& inputs;
    int column;

    // Of token t and the step that begins at first_column of the segment.
    __device__ __forceinline__ void Load(int t, int first_column, float4 (&x)[Codec::kQuads]) const {
      const float* row = inputs.data + t * inputs.stride;
#pragma unroll
      for (int k = 0; k < Codec::kQuads; ++k)
        x[k] = Load4<kAligned>(row, column + first_column + 4 * Codec::NextQuad(k), inputs.cols);
    }
  };
  template <class Codec>
  struct Lane {
    const DeviceInputs& inputs;
    int first_quad;

    __device__ __forceinline__ Lane(const DeviceInputs& the_inputs, int lane)
        : inputs(the_inputs), first_quad(Codec::FirstQuad(lane)) {}
    __device__ __forceinline__ Segment<Codec> At(int column) const {
      return {inputs, column + 4 * first_quad};
    }
  };
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
  struct Segment {
    const std::byte* at[Codec::kQuads];

    __device__ __forceinline__ void Load(int, int first_column, float4 (&x)[Codec::kQuads]) const {
#pragma unroll
      for (int k = 0; k < Codec::kQuads; ++k)
        x[k] = *reinterpret_cast<const float4*>(at[k] + 4 * first_column);
    }
  };
  template <class Codec>
  struct Lane {
    SharedPlace places[Codec::kQuads];

    __device__ __forceinline__ Lane(const SharedInput& input, int lane) {
#pragma unroll
      for (int k = 0; k < Codec::kQuads; ++k) {
        const int quad = Codec::FirstQuad(lane) ^ Codec::NextQuad(k);
        places[k] = Pinned(PlaceOf(input.quads + Shuffled(quad)));
      }
    }
    __device__ __forceinline__ Segment<Codec> At(int column) const {
      Segment<Codec> segment;
#pragma unroll
      for (int k = 0; k < Codec::kQuads; ++k) segment.at[k] = BytesAt(places[k] + 4 * column);
      return segment;
    }
  };
};

// By all lanes of a warp: for j = 0 .. count, ascending, emit(j, value), where lane t holds row_of(j) . x of
// token t if bit t of needed_of(j) is set. Rows are cols elements of row_bytes.
template <class Codec, int kTokens, bool kAligned, class Inputs, class RowOf, class NeededOf, class Emit>
__device__ __forceinline__ void StreamProducts(int count, int cols, int row_bytes, const Inputs& inputs,
                                               std::byte* ring, const RowOf& row_of,
                                               const NeededOf& needed_of, const Emit& emit) {
  constexpr int kProductColumns = 4 * Codec::kQuads * kWarpLanes;  // of a step
  constexpr int kProductBytes = Codec::kStepBytes * (kProductColumns / kStepColumns);
  constexpr int kSteps = Codec::kSegmentBytes / kProductBytes;
  static_assert(kSteps * kProductBytes == Codec::kSegmentBytes && Codec::kSegmentBytes + 16 <= kSlotBytes);
  constexpr int kTurn = kStreamRows * kSlotBytes;  // of the ring: a piece of each row
  constexpr int kSegmentColumns = kSteps * kProductColumns;
  const int lane = threadIdx.x % kWarpLanes;
  const LanePlace place = LaneWeights<Codec>::Place(lane);
  const SharedPlace slots = Pinned(PlaceOf(ring)), words = Pinned(slots + place.words),
                    scales = Pinned(slots + place.scale);
  const int shift = Pinned(place.shift), lane_columns = Pinned(cols - 4 * Codec::FirstQuad(lane));
  const typename Inputs::template Lane<Codec> lane_inputs(inputs, lane);
  const int segments = (row_bytes + Codec::kSegmentBytes - 1) / Codec::kSegmentBytes;
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
        if (r == 0 || pair) {
          StageBytes<Codec::kSegmentBytes, kAligned>(source[r], left, lane, slots + (turn + r * kSlotBytes));
        }
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
      const LanePiece piece = {BytesAt(words + turn), BytesAt(scales + turn), shift};
      const int segment_column = segment * kSegmentColumns;
      const auto x_of = lane_inputs.At(segment_column);
#pragma unroll(kTokens == 1 ? kSteps : 1)
      for (int s = 0; s < kSteps; ++s) {
        const int first_column = s * kProductColumns;
        if (segment_column + first_column < lane_columns) {
          LaneWeights<Codec> weights[kStreamRows];
#pragma unroll
          for (int r = 0; r < kStreamRows; ++r)
            weights[r].Decode(piece + (r * kSlotBytes + s * kProductBytes));
#pragma unroll
          for (int t = 0; t < kTokens; ++t) {
            if (kTokens > 1 && (needed >> t & 1) == 0) continue;
            float4 x[Codec::kQuads];
            x_of.Load(t, first_column, x);
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
