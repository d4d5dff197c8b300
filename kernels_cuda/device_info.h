// What CUDA devices this machine has.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace thermocline {

struct CudaDeviceInfo {
  std::string name;
  int compute_major = 0;
  int compute_minor = 0;
  int64_t memory_bytes = 0;
};

// Whether this build contains CUDA code.
bool BuiltWithCuda();

// Unimplemented in a build without CUDA; Unavailable, with the driver's words, where there is no usable
// driver or device.
absl::StatusOr<std::vector<CudaDeviceInfo>> ListCudaDevices();

}  // namespace thermocline
