// The probe of a whole machine, put together from those of its parts.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/hardware_probe.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "core/cpu_info.h"
#include "core/thread_team.h"
#include "kernels_cpu/kernel_table.h"
#include "kernels_cuda/device_info.h"
#include "kernels_cuda/device_probe.h"
#include "profiler/bandwidth.h"
#include "profiler/emulated_probe.h"
#include "profiler/neuron_probe.h"

namespace thermocline {
namespace {

constexpr int kLeastRepetitions = 5;
constexpr int kMostRepetitions = 1000;  // hardware.json holds no more samples
constexpr int kMostThreads = 1024;      // of a ThreadTeam

absl::Status MeasureCpu(const ProbeOptions& options, HardwareProfile& hardware) {
  for (int threads = 1;; threads = std::min(2 * threads, hardware.threads)) {
    TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> team, ThreadTeam::Create(threads));
    TC_ASSIGN_OR_RETURN(Samples read,
                        MeasureReadBandwidth(*team, {options.working_set_bytes, options.repetitions}));
    hardware.cpu_read.push_back({threads, std::move(read)});
    if (threads < hardware.threads) continue;
    TC_ASSIGN_OR_RETURN(hardware.cpu_neuron_gb_per_second,
                        MeasureNeuronBandwidth({.team = team.get(), .kernels = &BestKernels()},
                                               {.shape = options.neuron_shape,
                                                .working_set_bytes = options.working_set_bytes,
                                                .repetitions = options.repetitions}));
    hardware.cpu_neuron_shape = options.neuron_shape;
    return absl::OkStatus();
  }
}

absl::Status MeasureCudaDevices(const ProbeOptions& options, HardwareProfile& hardware) {
  TC_ASSIGN_OR_RETURN(const std::vector<CudaDeviceInfo> devices, ListCudaDevices());
  if (devices.empty()) return Unavailable("no CUDA device: the driver lists none");
  for (size_t i = 0; i < devices.size(); ++i) {
    TC_ASSIGN_OR_RETURN(AcceleratorProfile profile, ProbeCudaAccelerator(static_cast<int>(i), options));
    hardware.accelerators.push_back(std::move(profile));
  }
  return absl::OkStatus();
}

}  // namespace

ProbeOptions ProbeOptions::Quick() {
  return {.working_set_bytes = int64_t{1} << 20,
          .device_bytes = int64_t{1} << 20,
          .link_bytes = int64_t{1} << 20,
          .neuron_shape = {.d_model = 64, .d_ff = 320}};
}

absl::Status ProbeOptions::Validate() const {
  if (threads < 0 || threads > kMostThreads)
    return InvalidArgument("threads is {}, allowed are 0 to {}", threads, kMostThreads);
  if (repetitions < kLeastRepetitions || repetitions > kMostRepetitions) {
    return InvalidArgument("repetitions is {}, allowed are {} to {}", repetitions, kLeastRepetitions,
                           kMostRepetitions);
  }
  if (working_set_bytes < 0)
    return InvalidArgument("working_set_bytes is {}, allowed are 0 and above", working_set_bytes);
  if (device_bytes < 1) return InvalidArgument("device_bytes is {}, allowed are 1 and above", device_bytes);
  if (link_bytes < 1) return InvalidArgument("link_bytes is {}, allowed are 1 and above", link_bytes);
  for (size_t i = 0; i < accelerators.size(); ++i) {
    if (accelerators[i] != DeviceKind::kCuda && accelerators[i] != DeviceKind::kHost)
      return InvalidArgument("accelerators[{}] is no accelerator, allowed are cuda and host", i);
    if (std::find(accelerators.begin(), accelerators.begin() + static_cast<std::ptrdiff_t>(i),
                  accelerators[i]) != accelerators.begin() + static_cast<std::ptrdiff_t>(i)) {
      return InvalidArgument("accelerators[{}] is asked for twice, the limit is once", i);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<HardwareProfile> ProbeHardware(const ProbeOptions& options) {
  TC_RETURN_IF_ERROR(options.Validate());
  const CpuInfo cpu = ReadCpuInfo();
  HardwareProfile hardware{.cpu = cpu.model_name,
                           .isa = std::string(BestKernels().isa),
                           .threads = options.threads > 0 ? options.threads : cpu.usable_threads,
                           .memory_bytes = cpu.memory_bytes};
  // Accelerators first: what is not there is said before the CPU is measured.
  for (const DeviceKind kind : options.accelerators) {
    if (kind == DeviceKind::kCuda) {
      TC_RETURN_IF_ERROR(MeasureCudaDevices(options, hardware));
    } else {
      TC_ASSIGN_OR_RETURN(AcceleratorProfile emulated,
                          ProbeEmulatedAccelerator({options.working_set_bytes, options.repetitions}));
      hardware.accelerators.push_back(std::move(emulated));
    }
  }
  TC_RETURN_IF_ERROR(MeasureCpu(options, hardware));
  return hardware;
}

absl::StatusOr<AcceleratorProfile> ProbeCudaAccelerator(int device, const ProbeOptions& options) {
  TC_RETURN_IF_ERROR(options.Validate());
  TC_ASSIGN_OR_RETURN(DeviceProbe probe, ProbeCudaDevice({.device = device,
                                                          .repetitions = options.repetitions,
                                                          .copy_bytes = options.device_bytes,
                                                          .link_bytes = options.link_bytes}));
  return AcceleratorProfile{
      .name = std::move(probe.device.name),
      .kind = DeviceKind::kCuda,
      .emulated = false,
      .memory_bytes = probe.device.memory_bytes,
      .read_gb_per_second = std::move(probe.copy_gb_per_second),
      .to_device_pageable_gb_per_second = std::move(probe.to_device_pageable_gb_per_second),
      .to_device_pinned_gb_per_second = std::move(probe.to_device_pinned_gb_per_second),
      .from_device_pageable_gb_per_second = std::move(probe.from_device_pageable_gb_per_second),
      .from_device_pinned_gb_per_second = std::move(probe.from_device_pinned_gb_per_second),
      .launch_micros = std::move(probe.launch_micros),
      .sync_micros = std::move(probe.sync_micros)};
}

}  // namespace thermocline
