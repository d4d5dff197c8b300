// HardwareProfile: measured bandwidths and latencies of a machine, and its file hardware.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/samples.h"
#include "core/status.h"
#include "model/plan.h"

namespace thermocline {

// One accelerator. Bandwidths in GB (10^9 bytes) a second, latencies in microseconds.
struct AcceleratorProfile {
  std::string name;  // "NVIDIA H200", "emulated accelerator"
  DeviceKind kind = DeviceKind::kCuda;
  bool emulated = false;  // measured on the CPU in the accelerator's place
  int64_t memory_bytes = 0;
  Samples read_gb_per_second;  // of its own memory
  Samples to_device_pageable_gb_per_second;
  Samples to_device_pinned_gb_per_second;
  Samples from_device_pageable_gb_per_second;
  Samples from_device_pinned_gb_per_second;
  Samples launch_micros;  // from the host's call to the operator's start
  Samples sync_micros;    // one join of a layer: hand over, run nothing, hand back
};

struct ThreadBandwidth {
  int threads = 0;
  Samples read_gb_per_second;
};

struct HardwareProfile {
  std::string cpu;
  std::string isa;
  int threads = 0;  // of the team that decodes
  int64_t memory_bytes = 0;
  std::vector<ThreadBandwidth> cpu_read;  // ascending numbers of threads, the last is `threads`
  Samples cpu_neuron_gb_per_second;       // what the neuron-aware CPU kernels reach on active bytes
  std::vector<AcceleratorProfile> accelerators;
};

absl::Status WriteHardware(const HardwareProfile& hardware, const std::string& path);
// InvalidArgument naming path and field for what is missing, not a number, not positive or absurd.
absl::StatusOr<HardwareProfile> ReadHardware(const std::string& path);

}  // namespace thermocline
