// Probe of a CUDA device: bandwidth of its memory and its link, latency of launch and synchronisation.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/samples.h"
#include "core/status.h"
#include "kernels_cuda/device_info.h"

namespace thermocline {

struct DeviceProbeOptions {
  int device = 0;  // as ListCudaDevices lists them
  int repetitions = 5;
  int64_t copy_bytes = int64_t{1} << 30;    // inside the device; at most a quarter of what is free is taken
  int64_t link_bytes = int64_t{256} << 20;  // between host and device; likewise
};

// One sample a repetition, after one call of each that is not counted. GB are 10^9 bytes.
struct DeviceProbe {
  CudaDeviceInfo device;
  Samples
      copy_gb_per_second;  // a copy inside the device, bytes read plus bytes written; device time (events)
  Samples to_device_pageable_gb_per_second;  // ordinary host memory; host time until the stream is idle
  Samples to_device_pinned_gb_per_second;    // page-locked host memory; device time (events)
  Samples from_device_pageable_gb_per_second;
  Samples from_device_pinned_gb_per_second;
  // From before the host's call to the moment the host sees a word that the kernel writes to its memory: a
  // launch and one write over the link. A sample is the median of 64.
  Samples launch_micros;
  // From before the launch of an empty kernel until cudaStreamSynchronize returns. A sample is the median of
  // 64.
  Samples sync_micros;
};

// Unimplemented in a build without CUDA; Unavailable, with the driver's words, where there is no usable
// driver or device; InvalidArgument for options out of range; ResourceExhausted when memory is short. Every
// error of CUDA names the call. The calling thread's current device is the same afterwards.
absl::StatusOr<DeviceProbe> ProbeCudaDevice(const DeviceProbeOptions& options);

}  // namespace thermocline
