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
    .dequantize = Dequantize,
    .gated_activation = GatedActivation,
    .add = Add,
    .top_k = TopK,
    .sgemm_nt = SgemmNt,
    .sgemm_nn = SgemmNn,
};

}  // namespace thermocline::TC_GPU_NAMESPACE
