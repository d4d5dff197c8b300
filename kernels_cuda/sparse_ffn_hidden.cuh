// First kernel of the neuron-aware feed-forward block: gate, who fires, up.
// SPDX-License-Identifier: Apache-2.0
//
// One block a multiprocessor. Each lists the marked neurons by itself, all of them in the same order, and
// takes an equal share of that list: however the marked ones cluster, no multiprocessor has more than one
// neuron above another. Listing reads the marks (2 bytes a neuron) once a block, from the second-level cache:
// less than a further launch costs. A warp multiplies the gate rows of up to 32 neurons in one stream, then
// the up rows of those that fired; no result depends on which warp it was.
#pragma once

#include "kernels_cuda/gpu_kernels.h"
#include "kernels_cuda/row_stream.cuh"
#include "kernels_cuda/stream_launch.h"

namespace thermocline::TC_GPU_NAMESPACE {

inline constexpr int kMostListed = 1024;  // neurons of a block's share
// Of shared memory, behind the rings: numbers and masks of the listed, and an order of 32 for each warp.
inline constexpr int kListBytes = kMostListed * 6 + kMostStreamWarps * kWarpLanes;

struct HiddenArgs {
  const std::byte* bundles;
  int64_t stride_bytes;
  int64_t up_offset_bytes;
  int gate_row_bytes;
  int up_row_bytes;
  ElementType gate_type;
  ElementType up_type;
  bool gated;
  bool read_silent;
  GpuActivation activation;
  float threshold;
  int n_neurons;
  int d_model;
  const float* x;
  int64_t x_stride;
  int n_tokens;
  const GpuTokenMask* marked;  // aligned to 16 bytes, or nullptr
  GpuTokenMask* fired;         // or nullptr
  unsigned long long* counts;  // or nullptr
  float* hidden;
  int hidden_stride;
  GpuTokenMask* live;
  unsigned* finished;
  int tiles;
  int input_bytes;  // of shared memory
};

// NaN stays NaN, as in the CPU's kernels.
__device__ __forceinline__ float Activate(GpuActivation activation, float threshold, float x) {
  switch (activation) {
    case GpuActivation::kNone:
      return x;
    case GpuActivation::kRelu:
      return x < 0.0f ? 0.0f : x;
    case GpuActivation::kSilu:
      return x / (1.0f + expf(-x));
    case GpuActivation::kFatRelu:
      return x < threshold ? 0.0f : x;
  }
  return x;
}

// The masks of neurons [8 * group, 8 * group + 8), 16 bits each, zeros from n on.
__device__ __forceinline__ uint4 MasksOfGroup(const GpuTokenMask* masks, int group, int n) {
  if (8 * group + 8 <= n) return reinterpret_cast<const uint4*>(masks)[group];
  uint32_t words[4] = {};
#pragma unroll
  for (int k = 0; k < 8; ++k)
    if (8 * group + k < n) words[k / 2] |= static_cast<uint32_t>(masks[8 * group + k]) << (k % 2 * 16);
  return {words[0], words[1], words[2], words[3]};
}

__device__ __forceinline__ unsigned MaskAt(const uint4& masks, int k) {
  const uint32_t word = k < 2 ? masks.x : k < 4 ? masks.y : k < 6 ? masks.z : masks.w;
  return word >> (k % 2 * 16) & 0xFFFFu;
}

__device__ __forceinline__ int CountMarked(const uint4& masks, unsigned tokens) {
  int count = 0;
#pragma unroll
  for (int k = 0; k < 8; ++k) count += (MaskAt(masks, k) & tokens) != 0;
  return count;
}

// Lists this block's share of the neurons that some of `tokens` need and returns its size. By all threads;
// the list is there after the next barrier. Order: by thread, then by group, then ascending.
__device__ __forceinline__ int ListShare(const HiddenArgs& args, unsigned tokens, uint32_t* neurons,
                                         GpuTokenMask* masks) {
  __shared__ int warp_totals[kMostStreamWarps];
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int groups = (args.n_neurons + 7) / 8;
  int mine = 0;
#pragma unroll 4
  for (int group = threadIdx.x; group < groups; group += blockDim.x)
    mine += CountMarked(MasksOfGroup(args.marked, group, args.n_neurons), tokens);

  int rank = mine;  // inclusive, within the warp
#pragma unroll
  for (int distance = 1; distance < kWarpLanes; distance *= 2) {
    const int below = __shfl_up_sync(kFullWarp, rank, distance);
    if (lane >= distance) rank += below;
  }
  if (lane == kWarpLanes - 1) warp_totals[warp] = rank;
  __syncthreads();
  int total = 0;
  rank -= mine;
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarpLanes; ++w) {
    if (w < warp) rank += warp_totals[w];
    total += warp_totals[w];
  }

  const int begin = static_cast<int>(int64_t{total} * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(int64_t{total} * (blockIdx.x + 1) / gridDim.x);
  if (rank < end && rank + mine > begin) {
    for (int group = threadIdx.x; group < groups && rank < end; group += blockDim.x) {
      const uint4 marks = MasksOfGroup(args.marked, group, args.n_neurons);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const unsigned mask = MaskAt(marks, k) & tokens;
        if (mask == 0) continue;
        if (rank >= begin && rank < end) {
          neurons[rank - begin] = static_cast<uint32_t>(8 * group + k);
          masks[rank - begin] = static_cast<GpuTokenMask>(mask);
        }
        ++rank;
      }
    }
  }
  return end - begin;
}

// The same where every token needs every neuron.
__device__ __forceinline__ int ListRange(const HiddenArgs& args, unsigned tokens, uint32_t* neurons,
                                         GpuTokenMask* masks) {
  const int begin = static_cast<int>(int64_t{args.n_neurons} * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(int64_t{args.n_neurons} * (blockIdx.x + 1) / gridDim.x);
  for (int i = threadIdx.x; i < end - begin; i += blockDim.x) {
    neurons[i] = static_cast<uint32_t>(begin + i);
    masks[i] = static_cast<GpuTokenMask>(tokens);
  }
  return end - begin;
}

// What the marked neurons' warps do not write: masks of the others, and the second kernel's counters.
__device__ __forceinline__ void ClearOthers(const HiddenArgs& args, unsigned tokens) {
  const int threads = gridDim.x * blockDim.x, thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int whole_groups = (args.n_neurons + 7) / 8 * 8;
  for (int i = thread; i < whole_groups; i += threads) {
    const bool inside = i < args.n_neurons;
    if (inside && (args.marked == nullptr || (args.marked[i] & tokens) != 0)) continue;
    args.live[i] = 0;
    if (inside && args.fired != nullptr) args.fired[i] = 0;
  }
  for (int i = thread; i < args.tiles; i += threads) args.finished[i] = 0;
}

template <int kTokens, bool kAligned, bool kSharedInput>
__global__ void __launch_bounds__(StreamWarpsFor(kTokens) * kWarpLanes, 1) GateAndUp(const HiddenArgs args) {
  TC_DYNAMIC_SHARED(std::byte, shared);
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes, warps = blockDim.x / kWarpLanes;
  std::byte* const ring = shared + args.input_bytes + warp * kRingBytes;
  auto* const neurons = reinterpret_cast<uint32_t*>(shared + args.input_bytes + warps * kRingBytes);
  auto* const masks = reinterpret_cast<GpuTokenMask*>(neurons + kMostListed);
  auto* const order = reinterpret_cast<uint8_t*>(masks + kMostListed) + warp * kWarpLanes;
  const unsigned every_token = (1u << args.n_tokens) - 1;

  if constexpr (kSharedInput) SharedInput::Fill(args.x, args.d_model, reinterpret_cast<float4*>(shared));
  const int listed = args.marked == nullptr ? ListRange(args, every_token, neurons, masks)
                                            : ListShare(args, every_token, neurons, masks);
  ClearOthers(args, every_token);
  if (threadIdx.x == 0 && args.counts != nullptr && listed > 0)
    atomicAdd(&args.counts[0], static_cast<unsigned long long>(listed));
  __syncthreads();

  const int share = listed > warp ? (listed - warp - 1) / warps + 1 : 0;  // of this warp
  int down_rows = 0;
  for (int base = 0; base < share; base += kWarpLanes) {
    // Lane j keeps what is known of the j-th neuron.
    const int count = share - base < kWarpLanes ? share - base : kWarpLanes;
    const int place = warp + (base + lane) * warps;
    const uint32_t neuron = lane < count ? neurons[place] : 0;
    const unsigned mask = lane < count ? masks[place] : 0;
    unsigned fired = 0, live = 0;
    int rows = count;
    order[lane] = static_cast<uint8_t>(lane);
    __syncwarp();
#pragma unroll 1
    for (int phase = 0; phase < (args.gated ? 2 : 1); ++phase) {
      const bool gate = phase == 0;
      const ElementType type = gate ? args.gate_type : args.up_type;
      const int row_bytes = gate ? args.gate_row_bytes : args.up_row_bytes;
      const std::byte* const first = args.bundles + (gate ? 0 : args.up_offset_bytes);
      const auto row_of = [&](int j) {
        return first + __shfl_sync(kFullWarp, neuron, order[j]) * args.stride_bytes;
      };
      const auto needed_of = [&](int j) { return __shfl_sync(kFullWarp, gate ? mask : live, order[j]); };
      const auto emit = [&](int j, float product) {
        const int entry = order[j];
        float* const values =
            args.hidden + static_cast<int64_t>(__shfl_sync(kFullWarp, neuron, entry)) * args.hidden_stride;
        const bool needs = (__shfl_sync(kFullWarp, gate ? mask : live, entry) >> lane & 1) != 0;
        float value = 0.0f;
        if (needs) {
          if (gate) {
            value = Activate(args.activation, args.threshold, product);
          } else if (const float active = values[lane]; active != 0.0f) {
            value = active * product;
          }
        }
        const unsigned nonzero = __ballot_sync(kFullWarp, value != 0.0f);  // NaN is not zero
        if (lane < args.hidden_stride) values[lane] = value;
        if (lane == entry) {
          if (gate) fired = nonzero;
          live = args.read_silent ? mask : nonzero;
        }
      };
      const auto stream = [&](auto codec) {
        using Codec = decltype(codec);
        if constexpr (kSharedInput) {
          StreamProducts<Codec, kTokens, kAligned>(rows, args.d_model, row_bytes,
                                                   SharedInput{reinterpret_cast<const float4*>(shared)}, ring,
                                                   row_of, needed_of, emit);
        } else {
          StreamProducts<Codec, kTokens, kAligned>(
              rows, args.d_model, row_bytes, DeviceInputs<kAligned>{args.x, args.x_stride, args.d_model},
              ring, row_of, needed_of, emit);
        }
      };
      WithCodec(type, stream);
      if (gate && args.gated) {  // the up rows are those of what is live
        const unsigned selected = __ballot_sync(kFullWarp, live != 0);
        if (live != 0) order[__popc(selected & ((1u << lane) - 1))] = static_cast<uint8_t>(lane);
        rows = __popc(selected);
        __syncwarp();
      }
    }
    if (lane < count) {
      args.live[neuron] = static_cast<GpuTokenMask>(live);
      if (args.fired != nullptr) args.fired[neuron] = static_cast<GpuTokenMask>(fired);
    }
    down_rows += __popc(__ballot_sync(kFullWarp, live != 0));
  }
  if (lane == 0 && args.counts != nullptr && down_rows > 0)
    atomicAdd(&args.counts[1], static_cast<unsigned long long>(down_rows));
}

}  // namespace thermocline::TC_GPU_NAMESPACE
