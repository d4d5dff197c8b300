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
inline constexpr int kColumnRingBytes = 16 * kColumnSlotBytes<Q8_0Codec>;  // the longest
static_assert(F32Codec::kColumnDepth * kColumnSlotBytes<F32Codec> <= kColumnRingBytes);
static_assert(F16Codec::kColumnDepth * kColumnSlotBytes<F16Codec> <= kColumnRingBytes);
static_assert(Q4_0Codec::kColumnDepth * kColumnSlotBytes<Q4_0Codec> <= kColumnRingBytes);
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

// sums += the tile's columns of the listed neurons' rows, in order.
template <class Codec, int kTokens, bool kAligned>
__device__ __forceinline__ void StreamColumns(const DownArgs& args, int count, const uint32_t* neurons,
                                              const GpuTokenMask* masks, std::byte* ring,
                                              float (&sums)[kTokens][kLaneColumns]) {
  constexpr int kDepth = Codec::kColumnDepth, kSlot = kColumnSlotBytes<Codec>;
  constexpr int kValues = Codec::kStepBytes + 16;  // their place in a slot
  const int lane = threadIdx.x % kWarpLanes;
  const int begin = blockIdx.x * Codec::kStepBytes, left = args.row_bytes - begin;
  const bool inside = blockIdx.x * kFfnTileColumns + lane * kLaneColumns < args.d_model;
  const LanePlace place = Codec::Place(lane);
  const SharedPlace slots = Pinned(PlaceOf(ring)), words = Pinned(slots + place.words),
                    scales = Pinned(slots + place.scale);
  const int shift = Pinned(place.shift);
  const auto fetch = [&](int j, int at) {
    if (j < count) {
      const int64_t neuron = neurons[j];
      StageBytes<Codec::kStepBytes, kAligned>(args.down + neuron * args.stride_bytes + begin, left, lane,
                                              slots + at);
      if (4 * lane < args.hidden_stride) {
        CopyAsync16(slots + (at + kValues) + 16 * lane, args.hidden + neuron * args.hidden_stride + 4 * lane);
      }
    }
    CommitCopies();
  };
  for (int j = 0; j < kDepth - 1; ++j) fetch(j, j * kSlot);
  int at = 0, fetched_at = (kDepth - 1) * kSlot;
  for (int j = 0; j < count; ++j) {
    WaitForCopies<kDepth - 2>();
    __syncwarp();
    fetch(j + kDepth - 1, fetched_at);
    fetched_at = at;
    if (inside) {
      const unsigned mask = masks[j];
      const auto* values = reinterpret_cast<const float*>(BytesAt(slots + (at + kValues)));
      float w[kLaneColumns];
      const float scale = Codec::Decode({BytesAt(words + at), BytesAt(scales + at), shift}, w);
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (kTokens > 1 && (mask >> t & 1) == 0) continue;
        const float factor = Codec::kScaled ? values[t] * scale : values[t];
#pragma unroll
        for (int i = 0; i < kLaneColumns; ++i) sums[t][i] = __fmaf_rn(factor, w[i], sums[t][i]);
      }
    }
    at = at == (kDepth - 1) * kSlot ? 0 : at + kSlot;
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
