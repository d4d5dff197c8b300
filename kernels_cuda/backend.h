// What files of the CUDA backend start from: CUDA or its emulation, the namespace, launches of kernels.
// SPDX-License-Identifier: Apache-2.0
//
// The same sources compile for a device, where <cuda_runtime.h> is the CUDA Toolkit's, and as plain C++ for
// tests, where it is tests/support/cuda_emulation's. So that both can live in one program, each has its own
// namespace: everything here stands in thermocline::TC_GPU_NAMESPACE. Files that convert F16 or BF16 include
// <cuda_fp16.h> or <cuda_bf16.h> themselves.
//
// In kernels all lanes of a warp take part in its exchanges, with the mask kFullWarp.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "kernels_cuda/cuda_resources.h"
#include "kernels_cuda/gpu.h"

// TC_DYNAMIC_SHARED(float, sums): float* sums, the block's dynamic shared memory, aligned to 16 bytes.
#if defined(TC_CUDA_EMULATION)
#define TC_DYNAMIC_SHARED(Type, name) Type* const name = reinterpret_cast<Type*>(EmulatedDynamicShared())
#else
#define TC_DYNAMIC_SHARED(Type, name)                                \
  extern __shared__ __align__(16) unsigned char tc_dynamic_shared[]; \
  Type* const name = reinterpret_cast<Type*>(tc_dynamic_shared)
#endif

// Puts a kernel on a GpuStream; a Status. Dynamic shared memory above 48 KiB is opted into where the device
// has it. A kernel whose name holds a comma stands in parentheses: TC_LAUNCH((Sum<float, 4>), grid, ...).
#define TC_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                     \
  ::thermocline::TC_GPU_NAMESPACE::Launch(#kernel, kernel, grid, block, shared_bytes, \
                                          stream __VA_OPT__(, ) __VA_ARGS__)

namespace thermocline::TC_GPU_NAMESPACE {

inline constexpr unsigned kFullWarp = 0xFFFFFFFFu;
inline constexpr int kWarpLanes = 32;

// What a GpuStream points to.
struct Stream {
  int device = -1;
  CudaStream stream;
};

inline Stream& StreamOf(GpuStream stream) { return *reinterpret_cast<Stream*>(stream); }

// Makes a device the calling thread's current one.
absl::Status UseDevice(int device);

template <typename... Parameters>
absl::Status Launch(std::string_view name, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                    size_t shared_bytes, GpuStream stream, std::type_identity_t<Parameters>... arguments) {
  constexpr size_t kSharedWithoutAsking = size_t{48} << 10;
  const Stream& on = StreamOf(stream);
  TC_RETURN_IF_ERROR(UseDevice(on.device));
  if (shared_bytes > kSharedWithoutAsking) {
    if (const cudaError_t error =
            cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
        error != cudaSuccess)
      return CudaError(name, error);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = on.stream.get();
#if defined(TC_CUDA_EMULATION)
  NameNextKernel(name);
#endif
  if (const cudaError_t error = cudaLaunchKernelEx(&config, kernel, arguments...); error != cudaSuccess)
    return CudaError(name, error);
  return absl::OkStatus();
}

}  // namespace thermocline::TC_GPU_NAMESPACE
