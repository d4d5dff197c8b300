// Device probe of a build without the CUDA Toolkit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/device_probe.h"

namespace thermocline {

absl::StatusOr<DeviceProbe> ProbeCudaDevice(const DeviceProbeOptions&) { return ListCudaDevices().status(); }

}  // namespace thermocline
