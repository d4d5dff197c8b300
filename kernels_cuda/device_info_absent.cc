// Device list of a build without the CUDA Toolkit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/device_info.h"

namespace thermocline {

bool BuiltWithCuda() { return false; }

absl::StatusOr<std::vector<CudaDeviceInfo>> ListCudaDevices() {
  return Unimplemented("this build has no CUDA code: the CUDA Toolkit was not found when it was configured");
}

}  // namespace thermocline
