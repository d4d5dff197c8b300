// ProbeHardware: measures this machine.
// SPDX-License-Identifier: Apache-2.0
//
// Times are of a monotonic clock, memory is written before it is timed, each quantity is sampled
// `repetitions` times after one call that is not counted, and every sample is kept. Bandwidths are GB (10^9
// bytes) a second:
//   cpu_read    bandwidth.h: teams of 1, 2, 4, ... up to the decoding team's threads sum a working set
//   cpu_neuron  neuron_probe.h: bytes of touched rows over the time of sparse feed-forward layers
//   cuda        kernels_cuda/device_probe.h; read is a copy inside the device, bytes read plus bytes written
//   host        emulated_probe.h
// Memory is allocated as the program allocates weights, first touched by one thread, so that on several
// sockets the figures are those that decoding gets.
#pragma once

#include <cstdint>
#include <vector>

#include "core/status.h"
#include "profiler/hardware.h"

namespace thermocline {

struct ProbeOptions {
  int threads = 0;  // of the team that decodes; 0: every CPU this process may use
  std::vector<DeviceKind>
      accelerators;               // kCuda: every CUDA device; kHost: the emulated one; each at most once
  int repetitions = 5;            // at least 5
  int64_t working_set_bytes = 0;  // of CPU and emulated accelerator; 0: UncachedWorkingSetBytes()
  int64_t device_bytes = int64_t{1} << 30;  // of a copy inside a CUDA device
  int64_t link_bytes = int64_t{256} << 20;  // of a copy between host and CUDA device
  NeuronShape neuron_shape;

  // Small sets that caches hold, for tests: figures without meaning in little time.
  static ProbeOptions Quick();
  // InvalidArgument naming the option and its limits.
  absl::Status Validate() const;
};

// Without accelerators asked for the profile has none, whatever the machine has. Unavailable, with the
// driver's words, for kCuda without a usable device (Unimplemented in a build without CUDA);
// ResourceExhausted when a working set does not fit.
absl::StatusOr<HardwareProfile> ProbeHardware(const ProbeOptions& options);

// One of the CUDA devices that ListCudaDevices lists.
absl::StatusOr<AcceleratorProfile> ProbeCudaAccelerator(int device, const ProbeOptions& options);

}  // namespace thermocline
