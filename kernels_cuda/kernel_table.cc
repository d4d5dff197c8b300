// The table of the backend's launchers.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {

const GpuKernels kKernels = {
    .rms_norm = RmsNorm,
    .layer_norm = LayerNorm,
    .rope = Rope,
    .store_kv = StoreKv,
    .attention = Attention,
    .embed = Embed,
    .mat_mul = MatMul,
    .dequantize = Dequantize,
    .gated_activation = GatedActivation,
    .sparse_ffn = SparseFfn,
    .mlp_predictor = MlpPredictor,
    .sign_predictor = SignPredictor,
    .add = Add,
    .top_k = TopK,
    .sgemm_nt = SgemmNt,
    .sgemm_nn = SgemmNn,
};

}  // namespace thermocline::TC_GPU_NAMESPACE
