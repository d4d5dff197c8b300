// Stores a step's keys and values in the pages of the KV cache, a thread an element.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/backend.h"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kThreads = 256;

// Grid: (n_tokens, blocks that hold a token's keys, {0 keys, 1 values}).
__global__ void __launch_bounds__(kThreads)
    StoreRows(MatrixView<const float> keys, MatrixView<const float> values, GpuKvPages cache,
              GpuStepView step) {
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (column >= keys.cols) return;
  const MatrixView<const float>& from = blockIdx.z == 0 ? keys : values;
  const int64_t position = step.positions[blockIdx.x];
  const int64_t slice = step.slices[blockIdx.x];
  const int64_t page = step.pages.data[slice * step.pages.stride + position / cache.page_tokens];
  const int64_t head = column / cache.d_head;
  const int64_t row =
      ((page * 2 + blockIdx.z) * cache.n_kv_heads + head) * cache.page_tokens + position % cache.page_tokens;
  cache.data[row * cache.d_head + column % cache.d_head] = from.data[blockIdx.x * from.stride + column];
}

}  // namespace

absl::Status StoreKv(MatrixView<const float> keys, MatrixView<const float> values, const GpuKvPages& cache,
                     const GpuStepView& step, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckKvPages("store_kv", cache));
  TC_RETURN_IF_ERROR(CheckStep("store_kv", step));
  const int64_t width = cache.n_kv_heads * cache.d_head;
  TC_RETURN_IF_ERROR(CheckView("store_kv: keys", keys, step.n_tokens, width));
  TC_RETURN_IF_ERROR(CheckView("store_kv: values", values, step.n_tokens, width));
  const int64_t blocks = (width + kThreads - 1) / kThreads;
  if (blocks > kMostGpuTokens) return InvalidArgument("store_kv: rows of {} are too wide", width);
  const dim3 grid(static_cast<unsigned>(step.n_tokens), static_cast<unsigned>(blocks), 2);
  return TC_LAUNCH(StoreRows, grid, kThreads, 0, stream, keys, values, cache, step);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
