// The part of the CUDA runtime that the backend calls, emulated (tests/support/cuda_emulation_*.cc).
// SPDX-License-Identifier: Apache-2.0
//
// Work on a stream runs as late as it may: when the host waits for it, directly or through an event. So what
// misses a wait reads old memory. Device memory is the host's, but with AddressSanitizer only kernels and
// copies may follow its addresses. Each OpenEmulatedGpu makes a device; cudaSetDevice chooses among them.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

#include "tests/support/cuda_emulation.h"

namespace thermocline::cuda_emulation {

// Names and numbers are CUDA's.
#define TC_EMULATED_ERRORS(X)               \
  X(cudaSuccess, 0)                         \
  X(cudaErrorInvalidValue, 1)               \
  X(cudaErrorMemoryAllocation, 2)           \
  X(cudaErrorInitializationError, 3)        \
  X(cudaErrorInvalidConfiguration, 9)       \
  X(cudaErrorInsufficientDriver, 35)        \
  X(cudaErrorDevicesUnavailable, 46)        \
  X(cudaErrorNoDevice, 100)                 \
  X(cudaErrorInvalidDevice, 101)            \
  X(cudaErrorNoKernelImageForDevice, 209)   \
  X(cudaErrorECCUncorrectable, 214)         \
  X(cudaErrorNvlinkUncorrectable, 220)      \
  X(cudaErrorContained, 721)                \
  X(cudaErrorInvalidResourceHandle, 400)    \
  X(cudaErrorNotReady, 600)                 \
  X(cudaErrorIllegalAddress, 700)           \
  X(cudaErrorLaunchOutOfResources, 701)     \
  X(cudaErrorLaunchTimeout, 702)            \
  X(cudaErrorAssert, 710)                   \
  X(cudaErrorHardwareStackError, 714)       \
  X(cudaErrorIllegalInstruction, 715)       \
  X(cudaErrorMisalignedAddress, 716)        \
  X(cudaErrorInvalidAddressSpace, 717)      \
  X(cudaErrorInvalidPc, 718)                \
  X(cudaErrorLaunchFailure, 719)            \
  X(cudaErrorSystemNotReady, 802)           \
  X(cudaErrorSystemDriverMismatch, 803)     \
  X(cudaErrorStreamCaptureUnsupported, 900) \
  X(cudaErrorStreamCaptureInvalidated, 901) \
  X(cudaErrorStreamCaptureUnmatched, 903)   \
  X(cudaErrorStreamCaptureUnjoined, 904)    \
  X(cudaErrorStreamCaptureIsolation, 905)   \
  X(cudaErrorCapturedEvent, 907)            \
  X(cudaErrorStreamCaptureWrongThread, 908) \
  X(cudaErrorExternalDevice, 912)           \
  X(cudaErrorUnknown, 999)
#define TC_EMULATED_ENUMERATOR(name, number) name = number,
enum cudaError_t { TC_EMULATED_ERRORS(TC_EMULATED_ENUMERATOR) };
#undef TC_EMULATED_ENUMERATOR

const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major;
  int minor;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaGetDevice(int* device);
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16, cudaDevAttrMaxSharedMemoryPerBlockOptin = 97 };
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaSetDevice(int device);

cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
inline constexpr unsigned cudaHostAllocDefault = 0, cudaHostAllocPortable = 1, cudaHostAllocMapped = 2;
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes);

struct CUstream_st;
struct CUevent_st;
struct CUgraph_st;
struct CUgraphExec_st;
using cudaStream_t = CUstream_st*;
using cudaEvent_t = CUevent_st*;
using cudaGraph_t = CUgraph_st*;
using cudaGraphExec_t = CUgraphExec_st*;

inline constexpr unsigned cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);

inline constexpr unsigned cudaEventDefault = 0, cudaEventDisableTiming = 2;
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
// Time is counted, not measured: each piece of work takes a microsecond.
cudaError_t cudaEventElapsedTime(float* millis, cudaEvent_t begin, cudaEvent_t end);

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream);

enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal,
  cudaStreamCaptureModeThreadLocal,
  cudaStreamCaptureModeRelaxed
};
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};
// Checks the launch and puts one thread's `body` on the stream as a kernel.
cudaError_t LaunchEmulated(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body);

// The name by which the calling thread's next kernel is reported.
void NameNextKernel(std::string_view name);

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  static_assert((sizeof(Parameters) + ... + size_t{0}) <= 4096, "parameters of a kernel take 4 KiB at most");
  return LaunchEmulated(*config, reinterpret_cast<const void*>(kernel),
                        [kernel, ... copies = Parameters(arguments)] { kernel(copies...); });
}

// A call that does nothing but fail where that is planned: for the emulated libraries.
cudaError_t CallEmulated(const char* name);
// Puts other work on a stream: for the emulated libraries. `name` is the call that faults are planned for.
cudaError_t EnqueueEmulated(const char* name, cudaStream_t stream, std::function<void()> work);

}  // namespace thermocline::cuda_emulation
