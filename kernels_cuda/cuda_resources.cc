// Owners of CUDA resources, and CUDA errors as Status.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/cuda_resources.h"

#include <utility>

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

absl::StatusCode CodeOf(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::StatusCode::kResourceExhausted;
    case cudaErrorInvalidDevice:
      return absl::StatusCode::kInvalidArgument;
    // No such device, or none any more: what comes after these errors fails, too.
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorDevicesUnavailable:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorSystemNotReady:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorExternalDevice:
      return absl::StatusCode::kUnavailable;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace

absl::Status CudaError(std::string_view call, cudaError_t error) {
  cudaGetLastError();
  return absl::Status(CodeOf(error), fmt::format("{}: {} ({})", call.substr(0, call.find('(', 1)),
                                                 cudaGetErrorString(error), cudaGetErrorName(error)));
}

absl::StatusOr<CudaStream> CreateCudaStream() {
  cudaStream_t stream = nullptr;
  TC_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return CudaStream(stream);
}

absl::StatusOr<CudaEvent> CreateCudaEvent(bool timed) {
  cudaEvent_t event = nullptr;
  TC_CUDA_RETURN_IF_ERROR(
      cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming));
  return CudaEvent(event);
}

absl::StatusOr<DeviceMemory> AllocateDeviceMemory(int64_t size_bytes) {
  void* memory = nullptr;
  TC_CUDA_RETURN_IF_ERROR(cudaMalloc(&memory, static_cast<size_t>(size_bytes)));
  return DeviceMemory(static_cast<std::byte*>(memory));
}

absl::StatusOr<PinnedMemory> AllocatePinnedMemory(int64_t size_bytes) {
  void* memory = nullptr;
  TC_CUDA_RETURN_IF_ERROR(cudaHostAlloc(&memory, static_cast<size_t>(size_bytes), cudaHostAllocMapped));
  return PinnedMemory(static_cast<std::byte*>(memory));
}

absl::StatusOr<CurrentDevice> CurrentDevice::Create(int device) {
  int before = -1;
  TC_CUDA_RETURN_IF_ERROR(cudaGetDevice(&before));
  TC_CUDA_RETURN_IF_ERROR(cudaSetDevice(device));
  return CurrentDevice(before);
}

CurrentDevice::CurrentDevice(CurrentDevice&& other) noexcept : before_(std::exchange(other.before_, -1)) {}

CurrentDevice::~CurrentDevice() {
  if (before_ >= 0) cudaSetDevice(before_);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
