// The Gpu of a CUDA device, and its cuBLAS handle for launchers. Only for files of this room.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>

#include <memory>
#include <string_view>

#include "kernels_cuda/backend.h"

namespace thermocline::TC_GPU_NAMESPACE {

// OpenGpu for a device that exists.
absl::StatusOr<std::unique_ptr<Gpu>> OpenDevice(int ordinal);

// The handle of a Gpu of this backend, made ready to put work on `stream`: the device is current, the
// workspace is the Gpu's own, scalars are of the host, sums and products are plain F32
// (CUBLAS_PEDANTIC_MATH: no TF32, no splitting into narrower types).
absl::StatusOr<cublasHandle_t> CublasOn(Gpu& gpu, GpuStream stream);

// As CudaError, for calls of cuBLAS.
absl::Status CublasError(std::string_view call, cublasStatus_t status);

#define TC_CUBLAS_RETURN_IF_ERROR(call)                                              \
  do {                                                                               \
    if (const cublasStatus_t tc_status = (call); tc_status != CUBLAS_STATUS_SUCCESS) \
      return ::thermocline::TC_GPU_NAMESPACE::CublasError(#call, tc_status);         \
  } while (false)

}  // namespace thermocline::TC_GPU_NAMESPACE
