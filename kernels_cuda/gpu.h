// Gpu: one CUDA device: memory, streams, events and captured graphs; what a backend must offer.
// SPDX-License-Identifier: Apache-2.0
//
// No CUDA types: an address of device memory is an ordinary pointer that only the device may follow, and
// views (core/matrix.h) of device memory hold such addresses. Work is asynchronous and ordered within a
// stream. An error of a call, or of earlier work that a call notices, is its Status: ResourceExhausted when
// memory is short, Unavailable when the device is gone, else Internal; the message names the CUDA call. After
// an error other than ResourceExhausted the device is not to be used again.
//
// One thread at a time may call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "core/status.h"
#include "kernels_cuda/device_info.h"

namespace thermocline {

class Gpu;
struct GpuKernels;

// Handles of a backend, borrowed from the Gpu or owned by the classes below.
using GpuStream = struct GpuStreamHandle*;
using GpuEvent = struct GpuEventHandle*;
using GpuGraph = struct GpuGraphHandle*;

// Owns what a Gpu made and gives it back. The Gpu must outlive it.
template <typename Handle>
class GpuOwned {
 public:
  GpuOwned() = default;
  GpuOwned(Gpu* gpu, Handle handle) : gpu_(gpu), handle_(handle) {}
  GpuOwned(GpuOwned&& other) noexcept
      : gpu_(std::exchange(other.gpu_, nullptr)), handle_(std::exchange(other.handle_, Handle{})) {}
  GpuOwned& operator=(GpuOwned&& other) noexcept {
    std::swap(gpu_, other.gpu_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  GpuOwned(const GpuOwned&) = delete;
  GpuOwned& operator=(const GpuOwned&) = delete;
  ~GpuOwned();

  Handle get() const { return handle_; }
  explicit operator bool() const { return gpu_ != nullptr; }

 private:
  Gpu* gpu_ = nullptr;
  Handle handle_{};
};

struct DeviceBlock {  // of the device
  std::byte* data = nullptr;
  int64_t size_bytes = 0;
};
struct HostBlock {  // of the host, page-locked
  std::byte* data = nullptr;
  int64_t size_bytes = 0;
};

// Of device memory, for cuBLAS: allocated when a Gpu is opened.
inline constexpr int64_t kGpuWorkspaceBytes = int64_t{8} << 20;

struct GpuMemoryInfo {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};

class Gpu {
 public:
  virtual ~Gpu() = default;

  virtual const CudaDeviceInfo& info() const = 0;
  virtual const GpuKernels& kernels() const = 0;

  // Aligned to 256 bytes, not initialised. ResourceExhausted naming `what` and the bytes.
  virtual absl::StatusOr<GpuOwned<DeviceBlock>> Allocate(std::string_view what, int64_t size_bytes) = 0;
  virtual absl::StatusOr<GpuOwned<HostBlock>> AllocatePinned(std::string_view what, int64_t size_bytes) = 0;
  virtual int64_t allocated_bytes() const = 0;  // of Allocate, as asked for, and kGpuWorkspaceBytes
  virtual absl::StatusOr<GpuMemoryInfo> memory_info() = 0;  // as the driver reports it

  // Two streams. Work of one waits for the other's only through events.
  virtual GpuStream compute() const = 0;
  virtual GpuStream transfer() const = 0;

  // Host memory must stay until the copy is done; copies are asynchronous only where it is pinned.
  virtual absl::Status CopyToDevice(std::byte* target, const std::byte* source, int64_t size_bytes,
                                    GpuStream stream) = 0;
  virtual absl::Status CopyToHost(std::byte* target, const std::byte* source, int64_t size_bytes,
                                  GpuStream stream) = 0;
  virtual absl::Status Fill(std::byte* target, int value, int64_t size_bytes, GpuStream stream) = 0;
  virtual absl::Status Synchronize(GpuStream stream) = 0;  // the host waits

  virtual absl::StatusOr<GpuOwned<GpuEvent>> CreateEvent(bool timed) = 0;
  virtual absl::Status Record(GpuEvent event, GpuStream stream) = 0;
  virtual absl::Status Wait(GpuStream stream, GpuEvent event) = 0;                  // the stream waits
  virtual absl::Status Synchronize(GpuEvent event) = 0;                             // the host waits
  virtual absl::StatusOr<double> SecondsBetween(GpuEvent begin, GpuEvent end) = 0;  // of timed events

  // What is put on `stream` until EndCapture becomes a graph instead of running; work of the other stream
  // belongs to it between a Wait for an event of the capture and an event that `stream` waits for.
  virtual absl::Status BeginCapture(GpuStream stream) = 0;
  virtual absl::StatusOr<GpuOwned<GpuGraph>> EndCapture(GpuStream stream) = 0;
  virtual absl::Status Launch(GpuGraph graph, GpuStream stream) = 0;

 private:
  template <typename Handle>
  friend class GpuOwned;
  virtual void Release(DeviceBlock memory) = 0;
  virtual void Release(HostBlock memory) = 0;
  virtual void Release(GpuEvent event) = 0;
  virtual void Release(GpuGraph graph) = 0;
};

template <typename Handle>
GpuOwned<Handle>::~GpuOwned() {
  if (gpu_ != nullptr) gpu_->Release(handle_);
}

// Opens device `ordinal`, as ListCudaDevices lists them. Unimplemented in a build without CUDA; Unavailable,
// with the driver's words, where there is no usable driver or device; InvalidArgument where there are others;
// FailedPrecondition below compute capability 7.5.
absl::StatusOr<std::unique_ptr<Gpu>> OpenGpu(int ordinal);

}  // namespace thermocline
