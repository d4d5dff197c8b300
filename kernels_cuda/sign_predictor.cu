// A layer's sign predictor: the signs of the inputs as bits, then agreement of each gate row's signs with
// them.
// SPDX-License-Identifier: Apache-2.0
//
// Floor: the sign words, d_model / 8 bytes a neuron, once. A warp takes four rows at a time, 16 bytes a lane
// of each; the inputs' words lie in shared memory. Counts are integers, so any order is fixed.
#include <algorithm>

#include "kernels_cuda/device_support.cuh"
#include "kernels_cuda/gpu_kernels.h"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 4;         // of a warp at a time
constexpr int kSpanWords = 128;  // of a row, in shared memory for all tokens: 16 KiB
constexpr int64_t kMostColumns = int64_t{1} << 24;
constexpr int64_t kMostBlocks = 132 * 8;  // every multiprocessor of a large device is full

// Bit c % 32 of word c / 32: x(t, c) < 0. A block row a token; a warp 32 columns at a time.
__global__ void __launch_bounds__(kThreads)
    PackSigns(const float* x, int64_t x_stride, int cols, int half_words, uint32_t* packed) {
  const int lane = threadIdx.x % kWarpLanes;
  const int word = (blockIdx.x * kThreads + threadIdx.x) / kWarpLanes, column = word * kWarpLanes + lane;
  if (word >= half_words) return;  // whole warps
  const bool negative = column < cols && x[blockIdx.y * x_stride + column] < 0.0f;
  const unsigned bits = __ballot_sync(kFullWarp, negative);
  if (lane == 0) packed[blockIdx.y * int64_t{half_words} + word] = bits;
}

struct AgreementArgs {
  const uint64_t* signs;
  int64_t stride;
  int n_rows;
  int words;  // of a row
  int cols;
  const uint64_t* inputs;  // (n_tokens, words)
  int n_tokens;
  const float* thresholds;
  GpuTokenMask* marked;
};

__device__ __forceinline__ int WarpSum(int value) {
#pragma unroll
  for (int mask = kWarpLanes / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(kFullWarp, value, mask);
  return value;
}

// Words [2 * at, 2 * at + 2) of a row, zeros from `words` on.
template <bool kVector>
__device__ __forceinline__ uint4 WordPair(const uint64_t* row, int at, int words) {
  if (kVector) {
    if (2 * at < words) return reinterpret_cast<const uint4*>(row)[at];
    return {0, 0, 0, 0};
  }
  const uint64_t first = 2 * at < words ? row[2 * at] : 0, second = 2 * at + 1 < words ? row[2 * at + 1] : 0;
  return {static_cast<uint32_t>(first), static_cast<uint32_t>(first >> 32), static_cast<uint32_t>(second),
          static_cast<uint32_t>(second >> 32)};
}

__device__ __forceinline__ int CountDifferent(const uint4& a, const uint4& b) {
  return __popc(a.x ^ b.x) + __popc(a.y ^ b.y) + __popc(a.z ^ b.z) + __popc(a.w ^ b.w);
}

// kVector: rows start at multiples of 16 bytes and are whole pairs of words.
template <int kTokens, bool kVector>
__global__ void __launch_bounds__(kThreads) MarkBySigns(const AgreementArgs args) {
  __shared__ uint4 inputs[kTokens][kSpanWords / 2];
  const int lane = threadIdx.x % kWarpLanes, warp = threadIdx.x / kWarpLanes;
  const int stride = gridDim.x * (kThreads / kWarpLanes) * kRows;
  // Blocks keep together, for their barriers: as many turns for each warp.
  for (int base = blockIdx.x * (kThreads / kWarpLanes) * kRows; base < args.n_rows; base += stride) {
    const int first = base + warp * kRows;
    int different[kRows][kTokens] = {};
    for (int span = 0; span < args.words; span += kSpanWords) {
      const int words = args.words - span < kSpanWords ? args.words - span : kSpanWords;
      __syncthreads();
      for (int i = threadIdx.x; i < args.n_tokens * (kSpanWords / 2); i += kThreads) {
        const int t = i / (kSpanWords / 2), at = i % (kSpanWords / 2);
        inputs[t][at] = WordPair<kVector>(args.inputs + int64_t{t} * args.words + span, at, words);
      }
      __syncthreads();
#pragma unroll
      for (int pass = 0; pass < kSpanWords / 2 / kWarpLanes; ++pass) {
        const int at = pass * kWarpLanes + lane;
        uint4 row[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          row[r] = {0, 0, 0, 0};
          if (first + r < args.n_rows)
            row[r] = WordPair<kVector>(args.signs + (first + r) * args.stride + span, at, words);
        }
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
          if (t >= args.n_tokens) break;
          const uint4 input = inputs[t][at];
#pragma unroll
          for (int r = 0; r < kRows; ++r) different[r][t] += CountDifferent(row[r], input);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (first + r >= args.n_rows) break;
      int mine = 0;
#pragma unroll
      for (int t = 0; t < kTokens; ++t) {
        if (t >= args.n_tokens) break;
        const int sum = WarpSum(different[r][t]);
        if (lane == t) mine = sum;
      }
      const bool reached =
          lane < args.n_tokens && static_cast<float>(args.cols - 2 * mine) >= args.thresholds[lane];
      const unsigned tokens = __ballot_sync(kFullWarp, reached);
      if (lane == 0) args.marked[first + r] = static_cast<GpuTokenMask>(tokens);
    }
  }
}

absl::Status CheckArgs(const GpuSignPredictorArgs& args, int64_t words) {
  const int64_t tokens = args.x.rows;
  if (tokens < 1 || tokens > kGpuMostSparseTokens)
    return InvalidArgument("sign_predictor: {} tokens, allowed are 1 to {}", tokens, kGpuMostSparseTokens);
  TC_RETURN_IF_ERROR(CheckView("sign_predictor: x", args.x));
  if (args.x.cols > kMostColumns)
    return InvalidArgument("sign_predictor: d_model is {}, allowed are {}", args.x.cols, kMostColumns);
  TC_RETURN_IF_ERROR(CheckView("sign_predictor: signs", args.signs, args.signs.rows, words));
  if (args.signs.rows > kMostColumns)
    return InvalidArgument("sign_predictor: {} neurons, allowed are {}", args.signs.rows, kMostColumns);
  TC_RETURN_IF_ERROR(CheckVector("sign_predictor: thresholds", args.thresholds, 4));
  TC_RETURN_IF_ERROR(CheckVector("sign_predictor: marked", args.marked, 2));
  return CheckScratch("sign_predictor", args.scratch, tokens * 2 * words);
}

}  // namespace

absl::Status SignPredictor(const GpuSignPredictorArgs& args, GpuStream stream) {
  const int64_t words = (args.x.cols + 63) / 64;
  TC_RETURN_IF_ERROR(CheckArgs(args, words));
  const auto tokens = static_cast<int>(args.x.rows);
  const int64_t half_words = 2 * words;
  auto* const packed = reinterpret_cast<uint64_t*>(args.scratch.data());
  constexpr int kWarps = kThreads / kWarpLanes;
  TC_RETURN_IF_ERROR(TC_LAUNCH(
      PackSigns,
      dim3(static_cast<unsigned>((half_words + kWarps - 1) / kWarps), static_cast<unsigned>(tokens)),
      dim3(kThreads), 0, stream, args.x.data, args.x.stride, static_cast<int>(args.x.cols),
      static_cast<int>(half_words), reinterpret_cast<uint32_t*>(packed)));
  const AgreementArgs agreement = {.signs = args.signs.data,
                                   .stride = args.signs.stride,
                                   .n_rows = static_cast<int>(args.signs.rows),
                                   .words = static_cast<int>(words),
                                   .cols = static_cast<int>(args.x.cols),
                                   .inputs = packed,
                                   .n_tokens = tokens,
                                   .thresholds = args.thresholds,
                                   .marked = args.marked};
  const bool vector = words % 2 == 0 && IsAligned(args.signs.data, 16) &&
                      (args.signs.rows == 1 || args.signs.stride % 2 == 0);
  const auto launch = [&](void (*kernel)(AgreementArgs)) {
    const int64_t blocks = (args.signs.rows + kWarps * kRows - 1) / (kWarps * kRows);
    return TC_LAUNCH(kernel, dim3(static_cast<unsigned>(std::min(blocks, kMostBlocks))), dim3(kThreads), 0,
                     stream, agreement);
  };
  if (!vector) return launch(MarkBySigns<kGpuMostSparseTokens, false>);
  if (tokens <= 4) return launch(MarkBySigns<4, true>);
  return launch(MarkBySigns<kGpuMostSparseTokens, true>);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
