// An emulated device for tests of the emulation itself, below the Gpu.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/cuda_emulation/cuda_runtime.h"
#include "tests/support/emulated_gpu.h"

namespace thermocline {

class EmulationTest : public testing::Test {
 protected:
  EmulationTest() { Open({}); }
  ~EmulationTest() override { Close(); }

  // Another device in place of the one before.
  void Open(EmulatedGpuOptions options) {
    Close();
    faults_ = options.faults = std::make_shared<EmulatedFaults>();
    EXPECT_EQ(cudaSetDevice(cuda_emulation::AddEmulatedDevice(options)), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    EXPECT_EQ(cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking), cudaSuccess);
  }

  template <typename T>
  T* Device(size_t count) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, count * sizeof(T)), cudaSuccess);
    device_.push_back(memory);
    return static_cast<T*>(memory);
  }
  template <typename T>
  T* Pinned(size_t count) {
    void* memory = nullptr;
    EXPECT_EQ(cudaHostAlloc(&memory, count * sizeof(T), cudaHostAllocDefault), cudaSuccess);
    pinned_.push_back(memory);
    return static_cast<T*>(memory);
  }
  cudaEvent_t Event(unsigned flags = cudaEventDefault) {
    cudaEvent_t event = nullptr;
    EXPECT_EQ(cudaEventCreateWithFlags(&event, flags), cudaSuccess);
    events_.push_back(event);
    return event;
  }
  template <typename T>
  std::vector<T> Values(const T* device, size_t count) {
    std::vector<T> values(count);
    EXPECT_EQ(cudaMemcpyAsync(values.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost, stream_),
              cudaSuccess);
    return values;
  }

  template <typename... Parameters>
  cudaError_t Launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                     std::type_identity_t<Parameters>... arguments) {
    return LaunchOn(stream_, kernel, grid, block, shared_bytes, arguments...);
  }
  template <typename... Parameters>
  cudaError_t LaunchOn(cudaStream_t stream, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                       size_t shared_bytes, std::type_identity_t<Parameters>... arguments) {
    const cudaLaunchConfig_t config = {grid, block, shared_bytes, stream};
    return cudaLaunchKernelEx(&config, kernel, arguments...);
  }
  cudaError_t Synchronize() { return cudaStreamSynchronize(stream_); }

  EmulatedFaults& faults() { return *faults_; }
  cudaStream_t stream() { return stream_; }
  cudaStream_t other() { return other_; }

 private:
  void Close() {
    if (stream_ == nullptr) return;
    for (cudaEvent_t event : events_) cudaEventDestroy(event);
    for (void* memory : device_) cudaFree(memory);
    for (void* memory : pinned_) cudaFreeHost(memory);
    cudaStreamDestroy(stream_);
    cudaStreamDestroy(other_);
    events_.clear();
    device_.clear();
    pinned_.clear();
  }

  std::shared_ptr<EmulatedFaults> faults_;
  cudaStream_t stream_ = nullptr, other_ = nullptr;
  std::vector<cudaEvent_t> events_;
  std::vector<void*> device_, pinned_;
};

}  // namespace thermocline
