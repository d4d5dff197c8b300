// The part of cuBLAS that the backend calls, emulated (tests/support/cuda_emulation_blas.cc).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/cuda_emulation/cuda_runtime_api.h"

namespace thermocline::cuda_emulation {

enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_ARCH_MISMATCH = 8,
  CUBLAS_STATUS_EXECUTION_FAILED = 13,
  CUBLAS_STATUS_INTERNAL_ERROR = 14
};
const char* cublasGetStatusName(cublasStatus_t status);

struct cublasContext;
using cublasHandle_t = cublasContext*;
cublasStatus_t cublasCreate(cublasHandle_t* handle);
cublasStatus_t cublasDestroy(cublasHandle_t handle);
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream);
cublasStatus_t cublasSetWorkspace(cublasHandle_t handle, void* workspace, size_t bytes);

enum cublasMath_t { CUBLAS_DEFAULT_MATH = 0, CUBLAS_PEDANTIC_MATH = 2, CUBLAS_TF32_TENSOR_OP_MATH = 3 };
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode);

enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 };
// c = alpha * op(a) * op(b) + beta * c, matrices by columns, on the handle's stream. Alpha and beta are of
// the host. Not before a stream and a workspace were set: without them cuBLAS would use the default stream
// and memory that nobody accounted.
cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int m,
                           int n, int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                           const float* beta, float* c, int ldc);

}  // namespace thermocline::cuda_emulation
