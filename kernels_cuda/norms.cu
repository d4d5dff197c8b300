// RMSNorm and LayerNorm, a block a row.
// SPDX-License-Identifier: Apache-2.0
//
// A thread sums elements four by four; which ones hangs on the width alone, and so do the bits.
#include "kernels_cuda/backend.h"
#include "kernels_cuda/device_support.cuh"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

constexpr int kThreads = 512;
constexpr int64_t kStep = int64_t{4} * kThreads;

template <bool kVector>
__global__ void __launch_bounds__(kThreads)
    NormRms(MatrixView<const float> x, const float* weight, float epsilon, MatrixView<float> out) {
  __shared__ float warps[kThreads / kWarpLanes];
  const float* row = x.data + blockIdx.x * x.stride;
  float* target = out.data + blockIdx.x * out.stride;
  float squares = 0.0f;
#pragma unroll 4
  for (int64_t c = int64_t{4} * threadIdx.x; c < x.cols; c += kStep) {
    const float4 value = Load4<kVector>(row, c, x.cols);
    squares += value.x * value.x;
    squares += value.y * value.y;
    squares += value.z * value.z;
    squares += value.w * value.w;
  }
  const float mean = BlockSum<kThreads>(squares, warps) / static_cast<float>(x.cols);
  const float factor = 1.0f / sqrtf(mean + epsilon);
#pragma unroll 4
  for (int64_t c = int64_t{4} * threadIdx.x; c < x.cols; c += kStep) {
    const float4 value = Load4<kVector>(row, c, x.cols);
    const float4 w = Load4<kVector>(weight, c, x.cols);
    Store4<kVector>(
        {value.x * factor * w.x, value.y * factor * w.y, value.z * factor * w.z, value.w * factor * w.w}, c,
        x.cols, target);
  }
}

template <bool kVector>
__global__ void __launch_bounds__(kThreads)
    NormLayer(MatrixView<const float> x, const float* weight, const float* bias, float epsilon,
              MatrixView<float> out) {
  __shared__ float sum_warps[kThreads / kWarpLanes], square_warps[kThreads / kWarpLanes];
  const float* row = x.data + blockIdx.x * x.stride;
  float* target = out.data + blockIdx.x * out.stride;
  float sum = 0.0f;
#pragma unroll 4
  for (int64_t c = int64_t{4} * threadIdx.x; c < x.cols; c += kStep) {
    const float4 value = Load4<kVector>(row, c, x.cols);
    sum += (value.x + value.y) + (value.z + value.w);
  }
  const float mean = BlockSum<kThreads>(sum, sum_warps) / static_cast<float>(x.cols);
  float squares = 0.0f;
#pragma unroll 4
  for (int64_t c = int64_t{4} * threadIdx.x; c < x.cols; c += kStep) {
    const float4 value = Load4<kVector>(row, c, x.cols);
    const float parts[4] = {value.x - mean, value.y - mean, value.z - mean, value.w - mean};
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (kVector || c + i < x.cols) squares += parts[i] * parts[i];
  }
  const float variance = BlockSum<kThreads>(squares, square_warps) / static_cast<float>(x.cols);
  const float factor = 1.0f / sqrtf(variance + epsilon);
#pragma unroll 2
  for (int64_t c = int64_t{4} * threadIdx.x; c < x.cols; c += kStep) {
    const float4 value = Load4<kVector>(row, c, x.cols);
    const float4 w = Load4<kVector>(weight, c, x.cols);
    float4 result = {0.0f, 0.0f, 0.0f, 0.0f};
    if (bias != nullptr) result = Load4<kVector>(bias, c, x.cols);
    result.x += (value.x - mean) * factor * w.x;
    result.y += (value.y - mean) * factor * w.y;
    result.z += (value.z - mean) * factor * w.z;
    result.w += (value.w - mean) * factor * w.w;
    Store4<kVector>(result, c, x.cols, target);
  }
}

absl::Status CheckNorm(std::string_view operation, MatrixView<const float> x, const float* weight,
                       MatrixView<float> out) {
  TC_RETURN_IF_ERROR(CheckView(fmt::format("{}: x", operation), x));
  TC_RETURN_IF_ERROR(CheckView(fmt::format("{}: out", operation), out, x.rows, x.cols));
  return CheckVector(fmt::format("{}: weight", operation), weight, alignof(float));
}

}  // namespace

absl::Status RmsNorm(MatrixView<const float> x, const float* weight, float epsilon, MatrixView<float> out,
                     GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckNorm("rms_norm", x, weight, out));
  const bool vector = IsFloat4View(x) && IsFloat4View(out) && IsAligned(weight, 16);
  const auto kernel = vector ? NormRms<true> : NormRms<false>;
  return Launch("NormRms", kernel, static_cast<unsigned>(x.rows), kThreads, 0, stream, x, weight, epsilon,
                out);
}

absl::Status LayerNorm(MatrixView<const float> x, const float* weight, const float* bias, float epsilon,
                       MatrixView<float> out, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckNorm("layer_norm", x, weight, out));
  const bool vector = IsFloat4View(x) && IsFloat4View(out) && IsAligned(weight, 16) && IsAligned(bias, 16);
  const auto kernel = vector ? NormLayer<true> : NormLayer<false>;
  return Launch("NormLayer", kernel, static_cast<unsigned>(x.rows), kThreads, 0, stream, x, weight, bias,
                epsilon, out);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
