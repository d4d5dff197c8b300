// The backend's launchers, one for each entry of GpuKernels. Only for files of this room.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels_cuda/backend.h"
#include "kernels_cuda/gpu_kernels.h"

namespace thermocline::TC_GPU_NAMESPACE {

// The table of all launchers below.
extern const GpuKernels kKernels;

// What each does stands in gpu_kernels.h.
absl::Status Add(MatrixView<const float> y, MatrixView<float> x, GpuStream stream);
absl::Status Attention(const GpuAttentionArgs& args, GpuStream stream);
absl::Status Dequantize(const WeightView& w, MatrixView<float> to, GpuStream stream);
absl::Status Embed(const WeightView& embedding, const int32_t* tokens, MatrixView<float> out,
                   GpuStream stream);
absl::Status GatedActivation(GpuActivationFunction activation, MatrixView<const float> gate,
                             MatrixView<const float> up, MatrixView<float> hidden, GpuStream stream);
absl::Status LayerNorm(MatrixView<const float> x, const float* weight, const float* bias, float epsilon,
                       MatrixView<float> out, GpuStream stream);
absl::Status MatMul(const WeightView& w, MatrixView<const float> x, MatrixView<float> y, GpuStream stream);
absl::Status MlpPredictor(const GpuMlpPredictorArgs& args, GpuStream stream);
absl::Status RmsNorm(MatrixView<const float> x, const float* weight, float epsilon, MatrixView<float> out,
                     GpuStream stream);
absl::Status Rope(MatrixView<const float> cos, MatrixView<const float> sin, int64_t d_head, bool half,
                  MatrixView<float> x, GpuStream stream);
absl::Status SgemmNn(Gpu& gpu, float alpha, MatrixView<const float> h, MatrixView<const float> w, float beta,
                     MatrixView<float> c, GpuStream stream);
absl::Status SgemmNt(Gpu& gpu, float alpha, MatrixView<const float> x, MatrixView<const float> w, float beta,
                     MatrixView<float> c, GpuStream stream);
absl::Status SignPredictor(const GpuSignPredictorArgs& args, GpuStream stream);
absl::Status SparseFfn(const GpuSparseFfnArgs& args, GpuStream stream);
absl::Status StoreKv(MatrixView<const float> keys, MatrixView<const float> values, const GpuKvPages& cache,
                     const GpuStepView& step, GpuStream stream);
absl::Status TopK(MatrixView<const float> logits, MatrixView<int32_t> ids, MatrixView<float> values,
                  std::span<float> scratch, GpuStream stream);

}  // namespace thermocline::TC_GPU_NAMESPACE
