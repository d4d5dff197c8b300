// The emulated cuBLAS: products in double, by columns as cuBLAS has them.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cuda_emulation/cublas_v2.h"

namespace thermocline::cuda_emulation {

struct cublasContext {
  cudaStream_t stream = nullptr;
  bool has_workspace = false;
  bool pedantic = false;
};

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_ARCH_MISMATCH:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
  return "CUBLAS_STATUS of no name";
}

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  if (CallEmulated("cublasCreate") != cudaSuccess) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

// Gives up the workspace, too, as the real one does.
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  handle->has_workspace = false;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (workspace == nullptr || bytes == 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->has_workspace = true;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  handle->pedantic = mode == CUBLAS_PEDANTIC_MATH;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                           int n, int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                           const float* beta, float* c, int ldc) {
  if (handle->stream == nullptr || !handle->has_workspace || !handle->pedantic)
    return CUBLAS_STATUS_NOT_INITIALIZED;
  if (m < 0 || n < 0 || k < 0 || lda < std::max(1, op_a == CUBLAS_OP_N ? m : k) ||
      ldb < std::max(1, op_b == CUBLAS_OP_N ? k : n) || ldc < std::max(1, m))
    return CUBLAS_STATUS_INVALID_VALUE;
  const auto product = [=, scale = *alpha, keep = *beta] {
    for (ptrdiff_t j = 0; j < n; ++j) {
      for (ptrdiff_t i = 0; i < m; ++i) {
        double sum = 0;
        for (ptrdiff_t l = 0; l < k; ++l) {
          const float left = op_a == CUBLAS_OP_N ? a[l * lda + i] : a[i * lda + l];
          const float right = op_b == CUBLAS_OP_N ? b[j * ldb + l] : b[l * ldb + j];
          sum += double{left} * double{right};
        }
        float& target = c[j * ldc + i];
        target = static_cast<float>(scale * sum + (keep == 0 ? 0.0 : double{keep} * double{target}));
      }
    }
  };
  return EnqueueEmulated("cublasSgemm", handle->stream, product) == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace thermocline::cuda_emulation
