// Rotary position embedding, a thread a pair.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/backend.h"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kThreads = 256;

// Grid: (n_tokens, blocks that hold all pairs of a token). A pair is (first, first + distance).
__global__ void __launch_bounds__(kThreads)
    RotatePairs(MatrixView<const float> cos, MatrixView<const float> sin, int64_t d_head, bool half,
                MatrixView<float> x) {
  const int64_t pairs = cos.cols;
  const int64_t index = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  const int64_t head = index / pairs, pair = index % pairs;
  if ((head + 1) * d_head > x.cols) return;
  float* first = x.data + blockIdx.x * x.stride + head * d_head + (half ? pair : 2 * pair);
  float* second = first + (half ? pairs : 1);
  const float c = cos.data[blockIdx.x * cos.stride + pair];
  const float s = sin.data[blockIdx.x * sin.stride + pair];
  const float a = *first, b = *second;
  *first = a * c - b * s;
  *second = a * s + b * c;
}

}  // namespace

absl::Status Rope(MatrixView<const float> cos, MatrixView<const float> sin, int64_t d_head, bool half,
                  MatrixView<float> x, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckView("rope: x", x));
  if (d_head < 1 || x.cols % d_head != 0)
    return InvalidArgument("rope: {} columns are no heads of {}", x.cols, d_head);
  TC_RETURN_IF_ERROR(CheckView("rope: cos", cos, x.rows, cos.cols));
  TC_RETURN_IF_ERROR(CheckView("rope: sin", sin, x.rows, cos.cols));
  if (2 * cos.cols > d_head)
    return InvalidArgument("rope: {} pairs do not fit a d_head of {}", cos.cols, d_head);
  const int64_t blocks = (x.cols / d_head * cos.cols + kThreads - 1) / kThreads;
  if (blocks > kMostGpuTokens) return InvalidArgument("rope: rows of {} are too wide", x.cols);
  return TC_LAUNCH(RotatePairs, dim3(static_cast<unsigned>(x.rows), static_cast<unsigned>(blocks)), kThreads,
                   0, stream, cos, sin, d_head, half, x);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
