// Dense products through cublasGemmEx.
// SPDX-License-Identifier: Apache-2.0
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <utility>

#include "kernels_cuda/backend.h"
#include "tests/bench/cublas_dense.h"

namespace thermocline::bench {
namespace {

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

absl::Status Check(std::string_view call, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return Internal("{}: {}", call, cublasGetStatusString(status));
}

class Dense final : public CublasDense {
 public:
  explicit Dense(GpuOwned<DeviceBlock> workspace) : workspace_(std::move(workspace)) {}
  ~Dense() override {
    if (handle_ != nullptr) cublasDestroy(handle_);
  }

  absl::Status Open() { return Check("cublasCreate", cublasCreate(&handle_)); }

  absl::Status FeedForward(const CublasFfn& ffn, GpuStream stream) override {
    TC_RETURN_IF_ERROR(
        Check("cublasSetStream", cublasSetStream(handle_, TC_GPU_NAMESPACE::StreamOf(stream).stream.get())));
    TC_RETURN_IF_ERROR(
        Check("cublasSetWorkspace", cublasSetWorkspace(handle_, workspace_.get().data, kWorkspaceBytes)));
    const int64_t matrix_bytes = ffn.d_model * ffn.d_ff * 2;
    const std::byte* const down = ffn.weights + (ffn.gated ? 2 : 1) * matrix_bytes;
    TC_RETURN_IF_ERROR(Product(ffn.weights, ffn.d_ff, ffn.d_model, ffn.x, ffn.tokens, ffn.hidden));
    if (ffn.gated) {
      TC_RETURN_IF_ERROR(Product(ffn.weights + matrix_bytes, ffn.d_ff, ffn.d_model, ffn.x, ffn.tokens,
                                 ffn.hidden + ffn.tokens * ffn.d_ff * 2));
    }
    return Product(down, ffn.d_model, ffn.d_ff, ffn.hidden, ffn.tokens, ffn.y);
  }

 private:
  // y = x * transpose(w). w: (rows, cols), x: (tokens, cols), y: (tokens, rows), row by row; to cuBLAS, which
  // takes matrices by columns, transpose(y) = w' * x' with w' transposed once more.
  absl::Status Product(const std::byte* w, int64_t rows, int64_t cols, const std::byte* x, int64_t tokens,
                       std::byte* y) {
    const float one = 1, zero = 0;
    return Check("cublasGemmEx",
                 cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(rows),
                              static_cast<int>(tokens), static_cast<int>(cols), &one, w, CUDA_R_16F,
                              static_cast<int>(cols), x, CUDA_R_16F, static_cast<int>(cols), &zero, y,
                              CUDA_R_16F, static_cast<int>(rows), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
  }

  GpuOwned<DeviceBlock> workspace_;
  cublasHandle_t handle_ = nullptr;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CublasDense>> OpenCublasDense(Gpu& gpu) {
  TC_ASSIGN_OR_RETURN(GpuOwned<DeviceBlock> workspace,
                      gpu.Allocate("cuBLAS for comparison", kWorkspaceBytes));
  auto dense = std::make_unique<Dense>(std::move(workspace));
  TC_RETURN_IF_ERROR(dense->Open());
  return dense;
}

absl::StatusOr<CudaVersions> ReadCudaVersions() {
  CudaVersions versions;
  if (cudaDriverGetVersion(&versions.driver) != cudaSuccess ||
      cudaRuntimeGetVersion(&versions.runtime) != cudaSuccess) {
    return Unavailable("the CUDA driver does not say its version");
  }
  int major = 0, minor = 0, patch = 0;
  if (cublasGetProperty(MAJOR_VERSION, &major) != CUBLAS_STATUS_SUCCESS ||
      cublasGetProperty(MINOR_VERSION, &minor) != CUBLAS_STATUS_SUCCESS ||
      cublasGetProperty(PATCH_LEVEL, &patch) != CUBLAS_STATUS_SUCCESS) {
    return Unavailable("cuBLAS does not say its version");
  }
  versions.cublas = major * 10000 + minor * 100 + patch;
  return versions;
}

}  // namespace thermocline::bench
