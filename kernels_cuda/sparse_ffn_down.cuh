// Second kernel of the neuron-aware feed-forward block: the sum of the live neurons' down rows.
// SPDX-License-Identifier: Apache-2.0
//
// A block has a tile of 256 columns and a slice of the neurons, a warp of it one stripe of the slice
// (sparse_ffn_layout.h). Warps list their live neurons by votes and stream their pieces of the down rows, 272
// (Q8_0) to 1024 bytes, through rings as the first kernel does; partial sums stay in registers. The block
// that finishes a tile's last slice adds the slices, in order. Traffic of partial sums: 16 slices x d_model x
// 4 bytes a token, 1 MiB both ways for one token of 8192, within the second-level cache.
//
// A token's sum runs over its own live neurons in an order that the table fixes: it does not depend on its
// companions.
#pragma once

#include "kernels_cuda/sparse_ffn_hidden.cuh"
#include "kernels_cuda/sparse_ffn_layout.h"

namespace thermocline::TC_GPU_NAMESPACE {

inline constexpr int kValueBytes = 64;  // hidden values of a neuron, for 16 tokens
template <class Codec>
inline constexpr int kColumnSlotBytes = Codec::kStepBytes + 16 + kValueBytes;
template <class Codec>
inline constexpr int kColumnTurnBytes = Codec::kTurnRows* kColumnSlotBytes<Codec>;
template <class Codec>
inline constexpr int kColumnRing = Codec::kTurns* kColumnTurnBytes<Codec>;
inline constexpr int kColumnRingBytes = kColumnRing<F16Codec>;  // the longest
static_assert(kColumnRing<F32Codec> <= kColumnRingBytes && kColumnRing<BF16Codec> <= kColumnRingBytes);
static_assert(kColumnRing<Q8_0Codec> <= kColumnRingBytes && kColumnRing<Q4_0Codec> <= kColumnRingBytes);
inline constexpr int kListedColumns = 8 * kWarpLanes;  // neurons that a warp lists at a time
inline constexpr int kDownWarpBytes = kColumnRingBytes + kListedColumns * 6;
inline constexpr int kDownSharedBytes = kFfnWarps * kDownWarpBytes;

struct DownArgs {
  const std::byte* down;  // the first neuron's row
  int64_t stride_bytes;
  int row_bytes;
  ElementType type;
  int n_neurons;
  int d_model;
  int n_tokens;
  const float* hidden;
  int hidden_stride;
  const GpuTokenMask* live;
  float* partials;
  unsigned* finished;
  float* y;
  int64_t y_stride;
};

// A warp's copies of pieces of down rows, kTurnRows neurons at a time, and of the neurons' hidden values.
template <class Codec, bool kAligned>
class ColumnCopies {
 public:
  __device__ __forceinline__ ColumnCopies(const DownArgs& args, int count, const uint32_t* neurons,
                                          SharedPlace slots)
      : args_(args), count_(count), neurons_(neurons), slots_(slots), lane_(threadIdx.x % kWarpLanes) {
#pragma unroll
    for (int i = 0; i < kPieces; ++i) {
      const int piece = i * kWarpLanes + lane_, row = piece / kRowPieces;
      const int at = (piece - row * kRowPieces) * 16;
      const bool there = row < Codec::kTurnRows && Begin() + at < args.row_bytes;
      row_[i] = Pinned(there ? row : 1 << 30);
      offset_[i] = Pinned(Begin() + at);
      slot_[i] = Pinned(slots + (row * kSlot + at));
    }
  }

  // Of the neurons listed from j on, to the ring's bytes from `turn` on.
  __device__ __forceinline__ void Fetch(int j, int turn) const {
    if (j < count_) {
      if (kAligned) {
#pragma unroll
        for (int i = 0; i < kPieces; ++i) {
          if (row_[i] < count_ - j) {
            CopyAsync16(slot_[i] + turn,
                        args_.down + neurons_[j + row_[i]] * args_.stride_bytes + offset_[i]);
          }
        }
      } else {
        for (int r = 0; r < Codec::kTurnRows && j + r < count_; ++r) {
          StageBytes<Codec::kStepBytes, false>(args_.down + neurons_[j + r] * args_.stride_bytes + Begin(),
                                               args_.row_bytes - Begin(), lane_, slots_ + (turn + r * kSlot));
        }
      }
      const int row = lane_ / 4, quad = lane_ % 4;  // of hidden values
      if (row < Codec::kTurnRows && j + row < count_ && 4 * quad < args_.hidden_stride) {
        CopyAsync16(slots_ + (turn + row * kSlot + kValues + 16 * quad),
                    args_.hidden + static_cast<int64_t>(neurons_[j + row]) * args_.hidden_stride + 4 * quad);
      }
    }
    CommitCopies();
  }

  static constexpr int kSlot = kColumnSlotBytes<Codec>;
  static constexpr int kValues = Codec::kStepBytes + 16;  // their place in a slot

 private:
  static constexpr int kRowPieces = Codec::kStepBytes / 16;
  static constexpr int kPieces = (Codec::kTurnRows * kRowPieces + kWarpLanes - 1) / kWarpLanes;  // of a lane
  static __device__ __forceinline__ int Begin() { return blockIdx.x * Codec::kStepBytes; }

  const DownArgs& args_;
  int count_;
  const uint32_t* neurons_;
  SharedPlace slots_;
  int lane_;
  int row_[kPieces];
  int offset_[kPieces];
  SharedPlace slot_[kPieces];
};

// sums += the tile's columns of the listed neurons' rows, in order.
template <class Codec, int kTokens, bool kAligned>
__device__ __forceinline__ void StreamColumns(const DownArgs& args, int count, const uint32_t* neurons,
                                              const GpuTokenMask* masks, std::byte* ring,
                                              float (&sums)[kTokens][kLaneColumns]) {
  using Copies = ColumnCopies<Codec, kAligned>;
  constexpr int kRows = Codec::kTurnRows, kTurn = kColumnTurnBytes<Codec>;
  const int lane = threadIdx.x % kWarpLanes;
  const bool inside = blockIdx.x * kFfnTileColumns + lane * kLaneColumns < args.d_model;
  const LanePlace place = Codec::Place(lane);
  const SharedPlace slots = Pinned(PlaceOf(ring)), words = Pinned(slots + place.words),
                    scales = Pinned(slots + place.scale);
  const int shift = Pinned(place.shift);
  const Copies copies(args, count, neurons, slots);
  for (int i = 0; i < Codec::kTurns - 1; ++i) copies.Fetch(i * kRows, i * kTurn);
  int turn = 0, fetched_turn = (Codec::kTurns - 1) * kTurn;
#pragma unroll 1
  for (int first = 0; first < count; first += kRows) {
    WaitForCopies<Codec::kTurns - 2>();
    __syncwarp();
    copies.Fetch(first + (Codec::kTurns - 1) * kRows, fetched_turn);
    fetched_turn = turn;
    const LanePiece piece = {BytesAt(words + turn), BytesAt(scales + turn), shift};
    const std::byte* const values = BytesAt(slots + (turn + Copies::kValues));
    if (inside) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (first + r >= count) break;
        const unsigned mask = masks[first + r];
        float w[kLaneColumns];
        const float scale = Codec::Decode(piece + r * Copies::kSlot, w);
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
          if (kTokens > 1 && (mask >> t & 1) == 0) continue;
          const float value = reinterpret_cast<const float*>(values + r * Copies::kSlot)[t];
          const float factor = Codec::kScaled ? value * scale : value;
#pragma unroll
          for (int i = 0; i < kLaneColumns; ++i) sums[t][i] = __fmaf_rn(factor, w[i], sums[t][i]);
        }
      }
    }
    turn = turn == (Codec::kTurns - 1) * kTurn ? 0 : turn + kTurn;
  }
  WaitForCopies<0>();
  __syncwarp();
}

// Whether this block is the last of its tile's to get here. By all threads.
__device__ __forceinline__ bool FinishesTile(unsigned* finished) {
  __shared__ bool last;
  __threadfence();  // this thread's partial sums before the count
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(&finished[blockIdx.x], 1u) == kFfnSlices - 1;
  __syncthreads();
  __threadfence();
  return last;
}

template <int kTokens, bool kAligned>
__global__ void __launch_bounds__(kFfnWarps* kWarpLanes, 1) DownSum(const DownArgs args) {
  TC_DYNAMIC_SHARED(std::byte, shared);
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes, slice = blockIdx.y;
  std::byte* const ring = shared + warp * kDownWarpBytes;
  auto* const neurons = reinterpret_cast<uint32_t*>(ring + kColumnRingBytes);
  auto* const masks = reinterpret_cast<GpuTokenMask*>(neurons + kListedColumns);
  float sums[kTokens][kLaneColumns] = {};
  const int groups = (args.n_neurons + 7) / 8;
  for (int first = slice * kFfnWarps + warp; first < groups; first += kFfnStripes * kWarpLanes) {
    const int group = first + kFfnStripes * lane;
    uint4 marks = {0, 0, 0, 0};
    if (group < groups) marks = reinterpret_cast<const uint4*>(args.live)[group];
    int listed = 0;
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const unsigned mask = MaskAt(marks, k), votes = __ballot_sync(kFullWarp, mask != 0);
      if (mask != 0) {
        const int at = listed + __popc(votes & ((1u << lane) - 1));
        neurons[at] = static_cast<uint32_t>(8 * group + k);
        masks[at] = static_cast<GpuTokenMask>(mask);
      }
      listed += __popc(votes);
    }
    __syncwarp();
    WithCodec(args.type, [&](auto codec) {
      StreamColumns<decltype(codec), kTokens, kAligned>(args, listed, neurons, masks, ring, sums);
    });
  }

  // The block's stripes, then the tile's slices; a thread a column.
  auto* const stripes = reinterpret_cast<float*>(shared);  // (kFfnWarps, kFfnTileColumns)
  const int column = blockIdx.x * kFfnTileColumns + threadIdx.x;
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    if (t >= args.n_tokens) break;
    __syncthreads();
    auto* const mine = reinterpret_cast<float4*>(stripes + warp * kFfnTileColumns + lane * kLaneColumns);
    mine[0] = make_float4(sums[t][0], sums[t][1], sums[t][2], sums[t][3]);
    mine[1] = make_float4(sums[t][4], sums[t][5], sums[t][6], sums[t][7]);
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int s = 0; s < kFfnWarps; ++s) sum += stripes[s * kFfnTileColumns + threadIdx.x];
    if (column < args.d_model)
      args.partials[(int64_t{slice} * args.n_tokens + t) * args.d_model + column] = sum;
  }
  if (!FinishesTile(args.finished) || column >= args.d_model) return;
  for (int t = 0; t < args.n_tokens; ++t) {
    const float* part = args.partials + int64_t{t} * args.d_model + column;
    float sum = 0.0f;
#pragma unroll
    for (int s = 0; s < kFfnSlices; ++s) sum += part[s * int64_t{args.n_tokens} * args.d_model];
    args.y[t * args.y_stride + column] = sum;
  }
}

}  // namespace thermocline::TC_GPU_NAMESPACE
