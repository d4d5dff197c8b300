// Owners of CUDA streams, events and memory, and CUDA errors as Status. Only for files of this room.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>

#include "core/status.h"

#if defined(TC_CUDA_EMULATION)
#define TC_GPU_NAMESPACE emulated_gpu
#else
#define TC_GPU_NAMESPACE cuda_gpu
#endif

namespace thermocline::TC_GPU_NAMESPACE {

// `call` is the call's text or a kernel's name, which may stand in parentheses; what comes before its
// arguments goes into the message. Clears the error that CUDA remembers for the
// thread.
absl::Status CudaError(std::string_view call, cudaError_t error);

// Returns from a function of Status or StatusOr when the call fails.
#define TC_CUDA_RETURN_IF_ERROR(call)                                     \
  do {                                                                    \
    if (const cudaError_t tc_error = (call); tc_error != cudaSuccess)     \
      return ::thermocline::TC_GPU_NAMESPACE::CudaError(#call, tc_error); \
  } while (false)

// A destructor has nobody to tell of an error; what a broken device still owes shows in the next call.
struct CudaDeleter {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
struct DeviceMemoryDeleter {
  void operator()(std::byte* memory) const { cudaFree(memory); }
};
struct PinnedMemoryDeleter {
  void operator()(std::byte* memory) const { cudaFreeHost(memory); }
};

struct GraphDeleter {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};

// All are made on the current device.
using CudaStream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, CudaDeleter>;
using CudaEvent = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, CudaDeleter>;
using DeviceMemory = std::unique_ptr<std::byte, DeviceMemoryDeleter>;
using PinnedMemory = std::unique_ptr<std::byte, PinnedMemoryDeleter>;  // also mapped for the device
using CudaGraph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, GraphDeleter>;
using CudaGraphExec = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, GraphDeleter>;

absl::StatusOr<CudaStream> CreateCudaStream();  // does not wait for the default stream
absl::StatusOr<CudaEvent> CreateCudaEvent(bool timed);
absl::StatusOr<DeviceMemory> AllocateDeviceMemory(int64_t size_bytes);
absl::StatusOr<PinnedMemory> AllocatePinnedMemory(int64_t size_bytes);

// Makes a device the calling thread's current one, and the one before it again at the end.
class CurrentDevice {
 public:
  static absl::StatusOr<CurrentDevice> Create(int device);
  CurrentDevice(CurrentDevice&& other) noexcept;
  CurrentDevice& operator=(CurrentDevice&&) = delete;
  ~CurrentDevice();

 private:
  explicit CurrentDevice(int before) : before_(before) {}
  int before_;  // -1: nothing to restore
};

}  // namespace thermocline::TC_GPU_NAMESPACE
