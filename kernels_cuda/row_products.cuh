// The kernel of products with whole matrices, y = x * transpose(w), and what may become of each product.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels_cuda/gpu_kernels.h"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/row_stream.cuh"
#include "kernels_cuda/stream_launch.h"

namespace thermocline::TC_GPU_NAMESPACE {

struct RowProductArgs {
  const std::byte* rows;
  int64_t row_stride_bytes;
  int row_bytes;
  int n_rows;
  int cols;
  const float* x;
  int64_t x_stride;
  int n_tokens;
  int input_bytes;  // of shared memory
};

// finish(row, value), by all lanes of a warp: lane t holds token t's product. Pairs of neighbouring rows go
// to the grid's warps in turn, to other multiprocessors first.
template <class Codec, int kTokens, bool kAligned, bool kSharedInput, class Finish>
__global__ void __launch_bounds__(StreamWarpsFor(kTokens) * kWarpLanes, 1)
    RowProducts(const RowProductArgs args, const Finish finish) {
  TC_DYNAMIC_SHARED(std::byte, shared);
  const int warp = threadIdx.x / kWarpLanes, all_warps = gridDim.x * (blockDim.x / kWarpLanes);
  std::byte* const ring = shared + args.input_bytes + warp * kRingBytes;
  const int first = kStreamRows * (warp * gridDim.x + blockIdx.x), stride = kStreamRows * all_warps;
  const auto row_at = [&](int j) { return first + j / kStreamRows * stride + j % kStreamRows; };
  int count = 0;  // rows of this warp
  if (first < args.n_rows) {
    const int whole = (args.n_rows - first) / stride, rest = (args.n_rows - first) % stride;
    count = whole * kStreamRows + (rest < kStreamRows ? rest : kStreamRows);
  }
  const unsigned every_token = (1u << args.n_tokens) - 1;
  const auto row_of = [&](int j) { return args.rows + row_at(j) * args.row_stride_bytes; };
  const auto needed_of = [&](int) { return every_token; };
  const auto emit = [&](int j, float value) { finish(row_at(j), value); };
  if constexpr (kSharedInput) {
    auto* const quads = reinterpret_cast<float4*>(shared);
    SharedInput::Fill(args.x, args.cols, quads);
    __syncthreads();
    StreamProducts<Codec, kTokens, kAligned>(count, args.cols, args.row_bytes, SharedInput{quads}, ring,
                                             row_of, needed_of, emit);
  } else {
    StreamProducts<Codec, kTokens, kAligned>(count, args.cols, args.row_bytes,
                                             DeviceInputs<kAligned>{args.x, args.x_stride, args.cols}, ring,
                                             row_of, needed_of, emit);
  }
}

// Whether rows and inputs can be read 16 bytes at a time.
inline bool IsAlignedForStreams(const WeightView& w, int64_t row_bytes, MatrixView<const float> x) {
  return IsAligned(w.data, 16) && w.row_stride_bytes % 16 == 0 && row_bytes % 16 == 0 &&
         w.cols % kLaneColumns == 0 && IsFloat4View(x);
}

// One pass over w for up to kGpuMostSparseTokens rows of x. w and x have been checked; cols may be limited by
// kMostStreamColumns only.
template <class Codec, class Finish>
absl::Status LaunchRowProducts(const WeightView& w, MatrixView<const float> x, const Finish& finish,
                               GpuStream stream) {
  TC_ASSIGN_OR_RETURN(const int64_t row_bytes, RowBytes(w.type, w.cols));
  const bool aligned = IsAlignedForStreams(w, row_bytes, x);
  TC_ASSIGN_OR_RETURN(const StreamLaunch plan, PlanStreams(stream, w.cols, x.rows, aligned, kRingBytes, 0));
  const RowProductArgs args = {.rows = w.data,
                               .row_stride_bytes = w.row_stride_bytes,
                               .row_bytes = static_cast<int>(row_bytes),
                               .n_rows = static_cast<int>(w.rows),
                               .cols = static_cast<int>(w.cols),
                               .x = x.data,
                               .x_stride = x.stride,
                               .n_tokens = static_cast<int>(x.rows),
                               .input_bytes = plan.input_bytes};
  const dim3 grid(static_cast<unsigned>(plan.blocks)), block(static_cast<unsigned>(plan.warps * kWarpLanes));
  const auto launch = [&](void (*kernel)(RowProductArgs, Finish)) {
    return TC_LAUNCH(kernel, grid, block, plan.shared_bytes, stream, args, finish);
  };
  if (!aligned) return launch(RowProducts<Codec, kGpuMostSparseTokens, false, false, Finish>);
  if (plan.input_bytes > 0) return launch(RowProducts<Codec, 1, true, true, Finish>);
  if (x.rows <= 4) return launch(RowProducts<Codec, 4, true, false, Finish>);
  return launch(RowProducts<Codec, kGpuMostSparseTokens, true, false, Finish>);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
