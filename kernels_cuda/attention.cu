// Causal grouped-query attention over a paged KV cache: partial results of fixed splits, then their merge.
// SPDX-License-Identifier: Apache-2.0
//
// A block takes a split of 64 positions of one token, one KV head and up to eight of its query heads, which
// share the loads of keys and values. It leaves, for each head, the largest score m, the sum l of exp(score -
// m) and the values weighed by exp(score - m). The merge scales the splits to the largest m of all and adds
// them in an order that depends on the token's position only.
//
// Floors: a token at position p reads (p + 1) * n_kv_heads * d_head * 8 bytes of keys and values, once for
// every eight query heads of a KV head (from the L2 cache after the first), and writes n_heads / n_kv_heads
// in 128 parts of that as partial results. It does 4 * (p + 1) * n_heads * d_head operations: 0.5 a byte and
// query head of the group, at most 4, below the 14 at which the plain F32 of a device of compute capability
// 9.0 would bind. A thread has eight 16-byte loads in flight, so the four blocks or more of a multiprocessor
// have 64 KiB, beyond the 40 KiB that the latency of an H200's memory asks for.
#include <algorithm>
#include <cmath>

#include "kernels_cuda/attention_splits.h"
#include "kernels_cuda/backend.h"
#include "kernels_cuda/device_support.cuh"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kSplit = static_cast<int>(kAttentionSplit);
constexpr int kSplitThreads = 128;
constexpr int kLanesPerKey = 8;
constexpr int kLoads = 8;  // of 16 bytes that a thread has in flight
constexpr int kMergeThreads = 256;

struct AttentionLaunch {
  GpuAttentionArgs args;
  int64_t first_token = 0;
  int64_t groups = 1;  // blocks that share a KV head's query heads
  // (token of the launch, head, split), token first:
  float* partials = nullptr;  // AttentionPartialWidth(d_head) each
  float* maxima = nullptr;
  float* sums = nullptr;
};

// The launch's index of a token's head's split.
__device__ __forceinline__ int64_t PartialOf(const AttentionLaunch& launch, int64_t token, int64_t head,
                                             int64_t split, int64_t splits) {
  return (token * launch.args.n_heads + head) * splits + split;
}

// scores[p * kHeads + i] = scale * (query i . key of the split's position p), p < count. Eight lanes a key, a
// few keys a lane, which share what is read of the queries.
template <int kHeads, int kChunks, bool kVector>
__device__ __forceinline__ void ScoreKeys(const float* cache, const int64_t* offsets, const float4* queries,
                                          int count, int64_t d_head, float scale, float* scores) {
  constexpr int kKeys = kLoads / kChunks;
  constexpr int kDistance = kSplitThreads / kLanesPerKey;  // between a lane's keys
  static_assert(kSplit % (kKeys * kDistance) == 0);
  const int lane = threadIdx.x % kLanesPerKey, begin = threadIdx.x / kLanesPerKey;
  for (int first = begin; first - begin < count; first += kKeys * kDistance) {
    float4 chunks[kKeys][kChunks];
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
      const int p = first + k * kDistance;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        chunks[k][c] =
            Load4<kVector>(cache + offsets[p], 4 * (c * kLanesPerKey + lane), p < count ? d_head : 0);
      }
    }
    float sums[kKeys][kHeads] = {};
#pragma unroll
    for (int i = 0; i < kHeads; ++i) {
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        const float4 query = queries[(i * kChunks + c) * kLanesPerKey + lane];
#pragma unroll
        for (int k = 0; k < kKeys; ++k) {
          sums[k][i] += query.x * chunks[k][c].x;
          sums[k][i] += query.y * chunks[k][c].y;
          sums[k][i] += query.z * chunks[k][c].z;
          sums[k][i] += query.w * chunks[k][c].w;
        }
      }
    }
#pragma unroll
    for (int k = 0; k < kKeys; ++k) {
      const int p = first + k * kDistance;
#pragma unroll
      for (int i = 0; i < kHeads; ++i) {
#pragma unroll
        for (int mask = kLanesPerKey / 2; mask > 0; mask /= 2)
          sums[k][i] += __shfl_xor_sync(kFullWarp, sums[k][i], mask);
        if (lane == 0 && p < count) scores[p * kHeads + i] = sums[k][i] * scale;
      }
    }
  }
}

// Scores become exp(score - largest), zero from `count` on; a warp a head.
template <int kHeads>
__device__ __forceinline__ void Exponentials(int count, float* scores, float* maxima, float* sums) {
  static_assert(kSplit == 2 * kWarpLanes);
  const int lane = threadIdx.x % kWarpLanes;
  for (int i = threadIdx.x / kWarpLanes; i < kHeads; i += kSplitThreads / kWarpLanes) {
    float* low = scores + lane * kHeads + i;
    float* high = low + kWarpLanes * kHeads;
    const bool has_low = lane < count, has_high = lane + kWarpLanes < count;
    float maximum = has_low ? *low : -INFINITY;
    if (has_high) maximum = fmaxf(maximum, *high);
    maximum = WarpMax(maximum);
    const float low_weight = has_low ? expf(*low - maximum) : 0.0f;
    const float high_weight = has_high ? expf(*high - maximum) : 0.0f;
    const float sum = WarpSum(low_weight + high_weight);
    *low = low_weight;
    *high = high_weight;
    if (lane == 0) {
      maxima[i] = maximum;
      sums[i] = sum;
    }
  }
}

// Thread (subset, column): columns 4 * column .. + 3 of sum_p weights[p * kHeads + i] * value_p over the
// positions p = subset, subset + kSubsets, ...
template <int kHeads, int kSubsets, bool kVector>
__device__ __forceinline__ void WeighValues(const float* cache, const int64_t* offsets, const float* weights,
                                            int count, int subset, int column, int64_t d_head,
                                            float4 (&sums)[kHeads]) {
#pragma unroll
  for (int i = 0; i < kHeads; ++i) sums[i] = float4{0.0f, 0.0f, 0.0f, 0.0f};
  for (int first = subset; first < count; first += kLoads * kSubsets) {
    float4 values[kLoads];
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
      const int p = first + j * kSubsets;
      values[j] = Load4<kVector>(cache + offsets[p], 4 * column, p < count ? d_head : 0);
    }
#pragma unroll
    for (int j = 0; j < kLoads; ++j) {
#pragma unroll
      for (int i = 0; i < kHeads; ++i)
        AddScaled(weights[(first + j * kSubsets) * kHeads + i], values[j], sums[i]);
    }
  }
}

// Adds up the subsets' sums, halving their number until subset 0 has all.
template <int kHeads, int kSubsets>
__device__ __forceinline__ void AddSubsets(int subset, int column, float4* shared, float4 (&sums)[kHeads]) {
  constexpr int kColumns = kSplitThreads / kSubsets;
#pragma unroll
  for (int half = kSubsets / 2; half > 0; half /= 2) {
    if (subset >= half && subset < 2 * half) {
#pragma unroll
      for (int i = 0; i < kHeads; ++i) shared[((subset - half) * kHeads + i) * kColumns + column] = sums[i];
    }
    __syncthreads();
    if (subset < half) {
#pragma unroll
      for (int i = 0; i < kHeads; ++i) AddTo(shared[(subset * kHeads + i) * kColumns + column], sums[i]);
    }
    __syncthreads();
  }
}

// kHeads query heads of d_head <= 32 * kChunks. Grid: (tokens of the launch, n_kv_heads * groups, splits), so
// that tokens of one sequence read a split at about the same time, from the L2 cache after the first.
template <int kHeads, int kChunks, bool kVector>
__global__ void __launch_bounds__(kSplitThreads, 4) AttendSplit(AttentionLaunch launch) {
  constexpr int kColumns = kLanesPerKey * kChunks;  // of four floats
  constexpr int kSubsets = kSplitThreads / kColumns;
  __shared__ int64_t offsets[kSplit];
  __shared__ float scores[kSplit * kHeads];
  __shared__ float4 buffer[kHeads * kSplitThreads / 2];  // queries, then sums of values
  __shared__ float maxima[kHeads], sums[kHeads];
  static_assert(kColumns <= kSplitThreads / 2 && kSplit % (kLoads * kSubsets) == 0);

  const GpuAttentionArgs& args = launch.args;
  const GpuKvPages& cache = args.cache;
  const int64_t token = launch.first_token + blockIdx.x;
  const int64_t first_position = static_cast<int64_t>(blockIdx.z) * kSplit;
  const int64_t left = args.step.positions[token] + int64_t{1} - first_position;
  if (left <= 0) return;
  const int count = left < kSplit ? static_cast<int>(left) : kSplit;

  const int64_t kv_head = blockIdx.y / launch.groups;
  const int64_t heads_per_kv_head = args.n_heads / cache.n_kv_heads;
  const int64_t first_in_group = blockIdx.y % launch.groups * kHeads;
  const int64_t first_head = kv_head * heads_per_kv_head + first_in_group;
  const int heads = heads_per_kv_head - first_in_group < kHeads
                        ? static_cast<int>(heads_per_kv_head - first_in_group)
                        : kHeads;

  const int64_t values_offset = cache.n_kv_heads * cache.page_tokens * cache.d_head;  // past the keys
  if (threadIdx.x < kSplit) {
    // Positions past the last are never followed; those of the last keep the loads' addresses valid.
    const int64_t p = first_position + (static_cast<int>(threadIdx.x) < count ? threadIdx.x : count - 1);
    const int64_t slice = args.step.slices[token];
    const int64_t page = args.step.pages.data[slice * args.step.pages.stride + p / cache.page_tokens];
    offsets[threadIdx.x] =
        ((page * 2 * cache.n_kv_heads + kv_head) * cache.page_tokens + p % cache.page_tokens) * cache.d_head;
  }
  const float* queries = args.queries.data + token * args.queries.stride + first_head * cache.d_head;
  for (int e = threadIdx.x; e < kHeads * kColumns; e += kSplitThreads) {
    const int i = e / kColumns;
    buffer[e] = Load4<false>(queries + i * cache.d_head, 4 * (e % kColumns), i < heads ? cache.d_head : 0);
  }
  __syncthreads();
  ScoreKeys<kHeads, kChunks, kVector>(cache.data, offsets, buffer, count, cache.d_head, args.scale, scores);
  __syncthreads();
  Exponentials<kHeads>(count, scores, maxima, sums);
  __syncthreads();

  const int subset = threadIdx.x / kColumns, column = threadIdx.x % kColumns;
  float4 weighed[kHeads];
  WeighValues<kHeads, kSubsets, kVector>(cache.data + values_offset, offsets, scores, count, subset, column,
                                         cache.d_head, weighed);
  AddSubsets<kHeads, kSubsets>(subset, column, buffer, weighed);

  const int64_t width = (cache.d_head + 3) / 4 * 4;
  if (subset == 0) {
#pragma unroll
    for (int i = 0; i < kHeads; ++i) {
      if (i >= heads) break;
      const int64_t partial = PartialOf(launch, blockIdx.x, first_head + i, blockIdx.z, gridDim.z);
      Store4<true>(weighed[i], 4 * column, width, launch.partials + partial * width);
    }
  }
  if (static_cast<int>(threadIdx.x) < heads) {
    const int64_t partial = PartialOf(launch, blockIdx.x, first_head + threadIdx.x, blockIdx.z, gridDim.z);
    launch.maxima[partial] = maxima[threadIdx.x];
    launch.sums[partial] = sums[threadIdx.x];
  }
}

// Grid: (n_heads, tokens of the launch). `columns`: a power of two, of four floats, which hold d_head.
__global__ void __launch_bounds__(kMergeThreads)
    MergeSplits(AttentionLaunch launch, int64_t splits_of_launch, int columns) {
  __shared__ float warps[kMergeThreads / kWarpLanes];
  __shared__ float weights[kMergeThreads];
  __shared__ float4 buffer[kMergeThreads / 2];
  const GpuAttentionArgs& args = launch.args;
  const int64_t d_head = args.cache.d_head;
  const int64_t token = launch.first_token + blockIdx.y;
  const int64_t own_splits = args.step.positions[token] / kSplit + 1;
  const int64_t splits = own_splits < splits_of_launch ? own_splits : splits_of_launch;
  const int64_t first = PartialOf(launch, blockIdx.y, blockIdx.x, 0, splits_of_launch);
  const float* maxima = launch.maxima + first;
  const float* sums = launch.sums + first;
  const int64_t width = (d_head + 3) / 4 * 4;
  const float* partials = launch.partials + first * width;

  float maximum = maxima[0];
  for (int64_t s = threadIdx.x; s < splits; s += kMergeThreads) maximum = fmaxf(maximum, maxima[s]);
  maximum = BlockMax<kMergeThreads>(maximum, warps);

  const int subsets = kMergeThreads / columns;
  const int subset = threadIdx.x / columns, column = threadIdx.x % columns;
  float4 weighed = {0.0f, 0.0f, 0.0f, 0.0f};
  float sum = 0.0f;
  for (int64_t begin = 0; begin < splits; begin += kMergeThreads) {
    __syncthreads();  // the weights before have been read
    const int64_t own = begin + threadIdx.x;
    const float weight = own < splits ? expf(maxima[own] - maximum) : 0.0f;
    if (own < splits) sum += weight * sums[own];
    weights[threadIdx.x] = weight;
    __syncthreads();
    const int count = splits - begin < kMergeThreads ? static_cast<int>(splits - begin) : kMergeThreads;
    if (4 * column < width) {
#pragma unroll 4
      for (int s = subset; s < count; s += subsets)
        AddScaled(weights[s], Load4<true>(partials + (begin + s) * width, 4 * column, width), weighed);
    }
  }
  sum = BlockSum<kMergeThreads>(sum, warps);
  for (int half = subsets / 2; half > 0; half /= 2) {
    if (subset >= half && subset < 2 * half) buffer[(subset - half) * columns + column] = weighed;
    __syncthreads();
    if (subset < half) AddTo(buffer[subset * columns + column], weighed);
    __syncthreads();
  }
  if (subset == 0) {
    const float4 result = {weighed.x / sum, weighed.y / sum, weighed.z / sum, weighed.w / sum};
    Store4<false>(result, 4 * column, d_head,
                  args.output.data + token * args.output.stride + blockIdx.x * d_head);
  }
}

using SplitKernel = void (*)(AttentionLaunch);

template <int kHeads>
SplitKernel SplitKernelFor(int64_t d_head) {
  if (d_head <= 64) return AttendSplit<kHeads, 2, true>;
  if (d_head <= 128) return AttendSplit<kHeads, 4, true>;
  return AttendSplit<kHeads, 8, true>;
}

struct SplitChoice {
  SplitKernel kernel;
  int64_t heads;  // of a block
};

// By the model's shape only, so that a token's sums do not depend on its step.
SplitChoice ChooseSplitKernel(int64_t heads_per_kv_head, int64_t d_head) {
  if (d_head % 4 != 0) return {AttendSplit<8, 8, false>, 8};
  if (heads_per_kv_head == 1) return {SplitKernelFor<1>(d_head), 1};
  if (heads_per_kv_head == 2) return {SplitKernelFor<2>(d_head), 2};
  if (heads_per_kv_head <= 4) return {SplitKernelFor<4>(d_head), 4};
  return {SplitKernelFor<8>(d_head), 8};
}

absl::Status CheckAttention(const GpuAttentionArgs& args) {
  const GpuKvPages& cache = args.cache;
  TC_RETURN_IF_ERROR(CheckKvPages("attention", cache));
  if (cache.d_head > kMostAttentionHeadWidth) {
    return InvalidArgument("attention: d_head {} is above the limit of {}", cache.d_head,
                           kMostAttentionHeadWidth);
  }
  if (args.n_heads < 1 || args.n_heads > kMostGpuTokens || args.n_heads % cache.n_kv_heads != 0) {
    return InvalidArgument("attention: {} heads, allowed are multiples of the {} KV heads up to {}",
                           args.n_heads, cache.n_kv_heads, kMostGpuTokens);
  }
  TC_RETURN_IF_ERROR(CheckStep("attention", args.step));
  const int64_t most = std::min(args.step.pages.cols * cache.page_tokens, kMostGpuTokens * kAttentionSplit);
  if (args.most_positions < 1 || args.most_positions > most) {
    return InvalidArgument("attention: {} positions, allowed are 1 to {}", args.most_positions, most);
  }
  const int64_t width = args.n_heads * cache.d_head;
  TC_RETURN_IF_ERROR(CheckView("attention: queries", args.queries, args.step.n_tokens, width));
  TC_RETURN_IF_ERROR(CheckView("attention: output", args.output, args.step.n_tokens, width));
  return CheckScratch(
      "attention", args.scratch,
      GpuAttentionScratch(args.step.n_tokens, args.n_heads, cache.d_head, args.most_positions));
}

}  // namespace

absl::Status Attention(const GpuAttentionArgs& args, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckAttention(args));
  const int64_t d_head = args.cache.d_head, n_tokens = args.step.n_tokens;
  const int64_t heads_per_kv_head = args.n_heads / args.cache.n_kv_heads;
  const SplitChoice choice = ChooseSplitKernel(heads_per_kv_head, d_head);
  const int64_t splits = AttentionSplits(args.most_positions);
  const int64_t at_once = AttentionTokensOfLaunch(n_tokens, args.n_heads, args.most_positions);
  const int64_t partials = at_once * args.n_heads * splits;
  AttentionLaunch launch{.args = args,
                         .groups = (heads_per_kv_head + choice.heads - 1) / choice.heads,
                         .partials = args.scratch.data()};
  launch.maxima = launch.partials + partials * AttentionPartialWidth(d_head);
  launch.sums = launch.maxima + partials;
  int columns = 16;
  while (4 * columns < d_head) columns *= 2;

  for (int64_t t = 0; t < n_tokens; t += at_once) {
    launch.first_token = t;
    const auto tokens = static_cast<unsigned>(std::min(at_once, n_tokens - t));
    const dim3 grid(tokens, static_cast<unsigned>(args.cache.n_kv_heads * launch.groups),
                    static_cast<unsigned>(splits));
    TC_RETURN_IF_ERROR(Launch("AttendSplit", choice.kernel, grid, kSplitThreads, 0, stream, launch));
    TC_RETURN_IF_ERROR(TC_LAUNCH(MergeSplits, dim3(static_cast<unsigned>(args.n_heads), tokens),
                                 kMergeThreads, 0, stream, launch, splits, columns));
  }
  return absl::OkStatus();
}

}  // namespace thermocline::TC_GPU_NAMESPACE
