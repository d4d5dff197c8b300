// Opens a device among those that the driver lists.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/gpu_cuda.h"

namespace thermocline {

absl::StatusOr<std::unique_ptr<Gpu>> OpenGpu(int ordinal) {
  TC_ASSIGN_OR_RETURN(const std::vector<CudaDeviceInfo> devices, ListCudaDevices());
  if (ordinal < 0 || static_cast<size_t>(ordinal) >= devices.size())
    return InvalidArgument("CUDA device {}: there are {}, counted from 0", ordinal, devices.size());
  return TC_GPU_NAMESPACE::OpenDevice(ordinal);
}

}  // namespace thermocline
