// HardwareProfile: measured bandwidths and latencies of a machine, and its file hardware.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/element_type.h"
#include "core/samples.h"
#include "core/status.h"
#include "model/plan.h"

namespace thermocline {

// One accelerator. Bandwidths in GB (10^9 bytes) a second, latencies in microseconds. How each is measured:
// hardware_probe.h.
struct AcceleratorProfile {
  std::string name;  // "NVIDIA H200", "emulated accelerator"
  DeviceKind kind = DeviceKind::kCuda;
  bool emulated = false;  // measured on the CPU in the accelerator's place: true for kHost alone
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

// What the neuron-aware CPU kernels were measured on.
struct NeuronShape {
  int64_t d_model = 4096;
  int64_t d_ff = 11008;  // neurons of a layer
  ElementType weight_type = ElementType::kF16;
  double active_share = 0.1;  // of the neurons, for one token
};

struct HardwareProfile {
  std::string cpu;
  std::string isa;
  int threads = 0;  // of the team that decodes
  int64_t memory_bytes = 0;
  std::vector<ThreadBandwidth> cpu_read;  // ascending numbers of threads, the last is `threads`
  Samples cpu_neuron_gb_per_second;       // what the neuron-aware CPU kernels reach on active bytes
  NeuronShape cpu_neuron_shape;
  std::vector<AcceleratorProfile> accelerators;
};

// JSON with the unit in every name and every sample: the same bytes for the same profile. Written beside and
// renamed; a profile that ReadHardware would refuse is refused, and an older file stays.
absl::Status WriteHardware(const HardwareProfile& hardware, const std::string& path);

// InvalidArgument naming path and field for what is missing, of another type, not positive or absurd, for
// thread counts that do not ascend to `threads`, for unknown kinds, formats and versions, for names given
// twice and for deep nesting. NotFound when there is no such file, ResourceExhausted above 4 MiB.
absl::StatusOr<HardwareProfile> ReadHardware(const std::string& path);

}  // namespace thermocline
