// Emulated devices, calls of their runtime, and the running of what streams hold.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cuda_emulation_device.h"

#include <cstdio>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace thermocline::cuda_emulation {
namespace {

std::recursive_mutex mutex;
std::vector<std::unique_ptr<Device>>& Devices() {
  static auto& devices = *new std::vector<std::unique_ptr<Device>>;
  return devices;
}
thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

std::vector<std::shared_ptr<Capture>>& Captures() {
  static auto& captures = *new std::vector<std::shared_ptr<Capture>>;
  return captures;
}

Call::Call(const char* function) : lock_(mutex) {
  if (static_cast<size_t>(current_device) >= Devices().size()) {
    error_ = cudaErrorNoDevice;
    return;
  }
  device_ = Devices()[static_cast<size_t>(current_device)].get();
  error_ = static_cast<cudaError_t>(device_->options.faults->OnCall(function));
}

Call::Call(const char* function, NotInCapture) : Call(function) {
  for (const std::shared_ptr<Capture>& capture : Captures()) {
    const bool forbids =
        capture->mode == cudaStreamCaptureModeGlobal ||
        (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread == std::this_thread::get_id());
    if (!forbids || error_ != cudaSuccess) continue;
    capture->valid = false;
    error_ = cudaErrorStreamCaptureUnsupported;
  }
}

Call::Call(const char* function, const CUstream_st* stream) : Call(function) {
  if (error_ == cudaSuccess && (stream == nullptr || stream->device != device_))
    error_ = cudaErrorInvalidResourceHandle;
}

cudaError_t Call::Answer(cudaError_t error) const {
  if (error != cudaSuccess) last_error = error;
  return error;
}

DeviceAtWork::DeviceAtWork(Device& device) : device_(device) {
  if (device_.at_work++ > 0) return;
#if defined(__SANITIZE_ADDRESS__)
  for (const auto& [data, bytes] : device_.memory) __asan_unpoison_memory_region(data, bytes);
#endif
}

DeviceAtWork::~DeviceAtWork() {
  if (--device_.at_work > 0) return;
#if defined(__SANITIZE_ADDRESS__)
  for (const auto& [data, bytes] : device_.memory) __asan_poison_memory_region(data, bytes);
#endif
}

void RunStream(CUstream_st& stream, const Moment* until) {
  Device& device = *stream.device;
  const DeviceAtWork at_work(device);
  while (!stream.queue.empty() && (until == nullptr || !until->reached) && !device.lost()) {
    const Operation operation = std::move(stream.queue.front());
    stream.queue.pop_front();
    if (operation.after != nullptr && !operation.after->reached)
      RunStream(*operation.after->stream, operation.after.get());
    if (operation.work) {
      operation.work();
      device.micros += 1;
    }
    if (operation.reached != nullptr) {
      operation.reached->reached = true;
      operation.reached->micros = device.micros;
    }
  }
}

cudaError_t AfterWork(const Device& device) {
  return static_cast<cudaError_t>(device.options.faults->lost());
}

void RunAll(Device& device) {
  for (CUstream_st* stream : device.streams) RunStream(*stream, nullptr);
}

cudaError_t Enqueue(CUstream_st& stream, std::function<void()> work) {
  if (stream.capture == nullptr) {
    stream.queue.push_back({.work = std::move(work)});
    return cudaSuccess;
  }
  if (!stream.capture->valid) return cudaErrorStreamCaptureInvalidated;
  stream.capture->nodes.push_back({std::move(work), stream.last});
  stream.last = {stream.capture->nodes.size() - 1};
  return cudaSuccess;
}

int AddEmulatedDevice(const EmulatedGpuOptions& options) {
  const std::lock_guard lock(mutex);
  auto device = std::make_unique<Device>();
  device->ordinal = static_cast<int>(Devices().size());
  device->options = options;
  if (device->options.faults == nullptr) device->options.faults = std::make_shared<EmulatedFaults>();
  Devices().push_back(std::move(device));
  return Devices().back()->ordinal;
}

const char* cudaGetErrorName(cudaError_t error) {
#define TC_EMULATED_NAME(name, number) \
  case name:                           \
    return #name;
  switch (error) { TC_EMULATED_ERRORS(TC_EMULATED_NAME) }
#undef TC_EMULATED_NAME
  return "cudaErrorUnknown";
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "emulated error";
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  const std::lock_guard lock(mutex);
  *count = static_cast<int>(Devices().size());
  return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const std::lock_guard lock(mutex);
  if (device < 0 || static_cast<size_t>(device) >= Devices().size()) return cudaErrorInvalidDevice;
  const EmulatedGpuOptions& options = Devices()[static_cast<size_t>(device)]->options;
  *properties = {};
  std::snprintf(properties->name, sizeof(properties->name), "emulated CUDA device %d", device);
  properties->totalGlobalMem = static_cast<size_t>(options.total_memory_bytes);
  properties->major = options.compute_major;
  properties->minor = options.compute_minor;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  const Call call("cudaDeviceGetAttribute");
  if (!call.ok()) return call.Answer();
  if (device < 0 || static_cast<size_t>(device) >= Devices().size())
    return call.Answer(cudaErrorInvalidDevice);
  const Device& of = *Devices()[static_cast<size_t>(device)];
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = of.options.multiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(of.MostDynamicShared());
      return cudaSuccess;
  }
  return call.Answer(cudaErrorInvalidValue);
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  const std::lock_guard lock(mutex);
  if (device < 0 || static_cast<size_t>(device) >= Devices().size()) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}

cudaError_t CallEmulated(const char* name) {
  const Call call(name);
  return call.Answer();
}

}  // namespace thermocline::cuda_emulation
