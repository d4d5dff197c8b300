// Products of weight matrices with a step's activations: attention's projections and the head.
// SPDX-License-Identifier: Apache-2.0
//
// Floors of one pass: the weights' bytes over the memory's bandwidth, and for many tokens two operations an
// element and token over the multiprocessors' rate. On an H200 (4.8 TB/s; 132 x 128 multiply-adds a clock)
// F16 weights are bound by memory up to 12 tokens, Q4_0 up to 3.
#include <algorithm>

#include "kernels_cuda/launchers.h"
#include "kernels_cuda/row_products.cuh"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

struct StoreProduct {
  float* y;
  int64_t stride;
  int n_tokens;

  __device__ __forceinline__ void operator()(int row, float value) const {
    const int lane = threadIdx.x % kWarpLanes;
    if (lane < n_tokens) y[lane * stride + row] = value;
  }
};

// One pass over w.
absl::Status LaunchPass(const WeightView& w, MatrixView<const float> x, const StoreProduct& store,
                        GpuStream stream) {
  switch (w.type) {
    case ElementType::kF32:
      return LaunchRowProducts<F32Codec>(w, x, store, stream);
    case ElementType::kF16:
      return LaunchRowProducts<F16Codec>(w, x, store, stream);
    case ElementType::kBF16:
      return LaunchRowProducts<BF16Codec>(w, x, store, stream);
    case ElementType::kQ8_0:
      return LaunchRowProducts<Q8_0Codec>(w, x, store, stream);
    case ElementType::kQ4_0:
      return LaunchRowProducts<Q4_0Codec>(w, x, store, stream);
    default:
      return Unimplemented("mat_mul: no GPU kernel for {}", NameOf(w.type));
  }
}

}  // namespace

absl::Status MatMul(const WeightView& w, MatrixView<const float> x, MatrixView<float> y, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckWeights("mat_mul: w", w));
  TC_RETURN_IF_ERROR(CheckView("mat_mul: x", x, x.rows, w.cols));
  TC_RETURN_IF_ERROR(CheckView("mat_mul: y", y, x.rows, w.rows));
  if (w.cols > kMostStreamColumns)
    return InvalidArgument("mat_mul: w has {} columns, allowed are {}", w.cols, kMostStreamColumns);
  for (int64_t t = 0; t < x.rows; t += kGpuMostSparseTokens) {
    const int64_t tokens = std::min(kGpuMostSparseTokens, x.rows - t);
    TC_RETURN_IF_ERROR(
        LaunchPass(w, x.Rows(t, tokens), {y.row_data(t), y.stride, static_cast<int>(tokens)}, stream));
  }
  return absl::OkStatus();
}

}  // namespace thermocline::TC_GPU_NAMESPACE
