// The CUDA backend over an emulated device: no toolkit, driver or GPU; and faults on demand.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "kernels_cuda/gpu.h"

namespace thermocline {

// Numbers of cudaError_t.
enum class EmulatedError {
  kNone = 0,
  kInvalidValue = 1,
  kMemoryAllocation = 2,
  kEccUncorrectable = 214,
  kIllegalAddress = 700,
  kLaunchFailure = 719,
  kUnknown = 999,
};

// Faults of an emulated device, planned by any thread. Functions are CUDA's by name: "cudaMalloc",
// "cudaLaunchKernel" for kernels, "cublasSgemm".
class EmulatedFaults {
 public:
  // The `nth` call of `function` from now fails; 1 is the next. It does nothing else.
  void FailCall(std::string_view function, int64_t nth, EmulatedError error);
  // From now on every call fails, as on a device that is lost.
  void LoseDevice(EmulatedError error);

  // For the emulation: counts a call and says what it answers. A device once lost stays so.
  EmulatedError OnCall(std::string_view function);
  EmulatedError lost() const;
  // Calls of `function` so far.
  int64_t calls(std::string_view function) const;

  // What kernels did that they must not (KernelMisuse), one line each, oldest first.
  std::string misuse() const;
  void AddMisuse(const std::string& what);

 private:
  struct Function {
    int64_t calls = 0;
    std::map<int64_t, EmulatedError> failing;  // by the call's number
  };
  mutable std::mutex mutex_;
  std::map<std::string, Function, std::less<>> functions_;
  EmulatedError lost_ = EmulatedError::kNone;
  std::string misuse_;
};

struct EmulatedGpuOptions {
  int64_t total_memory_bytes = int64_t{1} << 30;
  int64_t granule_bytes = 512;  // the driver gives memory in multiples of this
  int compute_major = 9;
  int compute_minor = 0;
  int multiprocessors = 3;                 // as launches that fit themselves to the device see them
  uint32_t seed = 1;                       // of the order in which threads, blocks and a graph's nodes run
  std::shared_ptr<EmulatedFaults> faults;  // nullptr: the device's own
};

// A new device. The errors are OpenGpu's.
absl::StatusOr<std::unique_ptr<Gpu>> OpenEmulatedGpu(const EmulatedGpuOptions& options);

namespace cuda_emulation {

// A new device without a Gpu; its ordinal. For tests of the emulation.
int AddEmulatedDevice(const EmulatedGpuOptions& options);

}  // namespace cuda_emulation

}  // namespace thermocline
