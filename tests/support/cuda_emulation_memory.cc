// The emulated runtime's memory: allocations with limits and guards, copies, fills.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "tests/support/cuda_emulation_device.h"

namespace thermocline::cuda_emulation {
namespace {

constexpr size_t kAlignment = 256;
constexpr auto kGuard = std::byte{0xA5};
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kGuardBytes = 0;  // the block of the heap ends where the allocation ends
#else
constexpr size_t kGuardBytes = 256;
#endif

// Whether [begin, begin + bytes) lies within one allocation.
bool Holds(const std::map<std::byte*, size_t>& allocations, const void* begin, size_t bytes) {
  auto* const address = static_cast<std::byte*>(const_cast<void*>(begin));
  auto after = allocations.upper_bound(address);
  if (after == allocations.begin()) return false;
  const auto& [base, size] = *std::prev(after);
  const auto offset = static_cast<size_t>(address - base);
  return offset <= size && bytes <= size - offset;
}

std::byte* Poisoned(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, std::max<size_t>(bytes + kGuardBytes, 1)) != 0) return nullptr;
  auto* const data = static_cast<std::byte*>(memory);
  std::fill_n(data, bytes, std::byte{0xFF});
  std::fill_n(data + bytes, kGuardBytes, kGuard);
  return data;
}

void CheckGuard(Device& device, const std::byte* data, size_t bytes) {
  if (std::all_of(data + bytes, data + bytes + kGuardBytes, [](std::byte b) { return b == kGuard; })) return;
  device.options.faults->AddMisuse(fmt::format("a write past the end of an allocation of {} bytes", bytes));
}

}  // namespace

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const Call call("cudaMalloc", kNotInCapture);
  if (!call.ok()) return call.Answer();
  Device& device = call.device();
  if (bytes > static_cast<size_t>(device.options.total_memory_bytes) ||
      device.RoundedUp(bytes) > static_cast<size_t>(device.options.total_memory_bytes) - device.used_bytes)
    return call.Answer(cudaErrorMemoryAllocation);
  std::byte* const data = Poisoned(bytes);
  if (data == nullptr) return call.Answer(cudaErrorMemoryAllocation);
  device.memory.emplace(data, bytes);
  const DeviceAtWork closes_it(device);
  device.used_bytes += device.RoundedUp(bytes);
  *memory = data;
  return cudaSuccess;
}

// The memory of a lost device is given back, too, as the end of a process does.
cudaError_t cudaFree(void* memory) {
  const Call call("cudaFree", kNotInCapture);
  if (memory == nullptr) return call.Answer();
  Device& device = call.device();
  const auto found = device.memory.find(static_cast<std::byte*>(memory));
  if (found == device.memory.end()) return call.Answer(cudaErrorInvalidValue);
  RunAll(device);
  const DeviceAtWork at_work(device);
  CheckGuard(device, found->first, found->second);
  device.used_bytes -= device.RoundedUp(found->second);
  std::free(found->first);
  device.memory.erase(found);
  return call.Answer();
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  const Call call("cudaHostAlloc", kNotInCapture);
  if (!call.ok()) return call.Answer();
  std::byte* const data = Poisoned(bytes);
  if (data == nullptr) return call.Answer(cudaErrorMemoryAllocation);
  call.device().pinned.emplace(data, bytes);
  *memory = data;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  const Call call("cudaFreeHost", kNotInCapture);
  if (memory == nullptr) return call.Answer();
  Device& device = call.device();
  const auto found = device.pinned.find(static_cast<std::byte*>(memory));
  if (found == device.pinned.end()) return call.Answer(cudaErrorInvalidValue);
  RunAll(device);
  CheckGuard(device, found->first, found->second);
  std::free(found->first);
  device.pinned.erase(found);
  return call.Answer();
}

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  const Call call("cudaMemGetInfo");
  if (!call.ok()) return call.Answer();
  *total_bytes = static_cast<size_t>(call.device().options.total_memory_bytes);
  *free_bytes = *total_bytes - call.device().used_bytes;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Call call("cudaMemcpyAsync", stream);
  if (!call.ok()) return call.Answer();
  Device& device = call.device();
  const bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;
  if ((to_device && !Holds(device.memory, target, bytes)) ||
      (from_device && !Holds(device.memory, source, bytes)))
    return call.Answer(cudaErrorInvalidValue);
  const auto copy = [=] { std::memcpy(target, source, bytes); };
  const bool pageable = kind != cudaMemcpyDeviceToDevice &&
                        !Holds(device.pinned, kind == cudaMemcpyHostToDevice ? source : target, bytes);
  if (!pageable) return call.Answer(Enqueue(*stream, copy));
  if (stream->capture != nullptr) {
    stream->capture->valid = false;
    return call.Answer(cudaErrorStreamCaptureUnsupported);
  }
  if (kind == cudaMemcpyHostToDevice) {  // through a buffer that is filled before the call returns
    const auto* const begin = static_cast<const std::byte*>(source);
    return call.Answer(Enqueue(*stream, [target, staged = std::vector<std::byte>(begin, begin + bytes)] {
      std::memcpy(target, staged.data(), staged.size());
    }));
  }
  RunStream(*stream, nullptr);
  const DeviceAtWork at_work(device);
  if (!device.lost()) copy();
  return call.Answer(AfterWork(device));
}

cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  const Call call("cudaMemsetAsync", stream);
  if (!call.ok()) return call.Answer();
  if (!Holds(call.device().memory, target, bytes)) return call.Answer(cudaErrorInvalidValue);
  return call.Answer(Enqueue(*stream, [=] { std::memset(target, value, bytes); }));
}

}  // namespace thermocline::cuda_emulation
