// thermocline doctor: what this machine has, and what the program makes of it.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "cli/size_format.h"
#include "core/cpu_info.h"
#include "kernels_cpu/kernel_table.h"
#include "kernels_cuda/device_info.h"
#include "profiler/hardware_probe.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

// What a device reaches, or why that could not be measured: doctor reports ills, it does not fail of them.
nlohmann::ordered_json ExamineGpu(int index, const CudaDeviceInfo& device, const ProbeOptions& options) {
  nlohmann::ordered_json gpu = {
      {"name", device.name},
      {"compute_capability", fmt::format("{}.{}", device.compute_major, device.compute_minor)},
      {"memory_bytes", device.memory_bytes}};
  const auto measured = ProbeCudaAccelerator(index, options);
  if (!measured.ok()) {
    gpu["error"] = MessageOf(measured.status());
    return gpu;
  }
  gpu["read_gb_per_second"] = measured->read_gb_per_second.median();
  gpu["to_device_gb_per_second"] = measured->to_device_pinned_gb_per_second.median();
  gpu["from_device_gb_per_second"] = measured->from_device_pinned_gb_per_second.median();
  gpu["launch_micros"] = measured->launch_micros.median();
  gpu["sync_micros"] = measured->sync_micros.median();
  return gpu;
}

struct Flags {
  int threads = 0;
  bool json = false;
  std::string save;             // hardware.json
  std::string device = "none";  // whose figures are saved too
};

absl::StatusOr<std::vector<DeviceKind>> AcceleratorsOf(const std::string& device) {
  if (device == "none") return std::vector<DeviceKind>();
  if (device == "cuda") return std::vector<DeviceKind>{DeviceKind::kCuda};
  if (device == "host") return std::vector<DeviceKind>{DeviceKind::kHost};
  return FieldError("--device", fmt::format("'{}' is unknown; known are cuda, host, none", device));
}

absl::Status Examine(const Flags& flags) {
  const CpuInfo cpu = ReadCpuInfo();
  ProbeOptions options;
  TC_ASSIGN_OR_RETURN(options.accelerators, AcceleratorsOf(flags.device));
  {
    TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> team, CreateTeam({.threads = flags.threads}));
    options.threads = team->threads();
  }
  TC_ASSIGN_OR_RETURN(const HardwareProfile hardware, ProbeHardware(options));
  if (!flags.save.empty()) TC_RETURN_IF_ERROR(WriteHardware(hardware, flags.save));
  const Samples& bandwidth = hardware.cpu_read.back().read_gb_per_second;
  const Samples& neuron = hardware.cpu_neuron_gb_per_second;
  const auto devices = ListCudaDevices();

  nlohmann::ordered_json gpus = nlohmann::ordered_json::array();
  if (devices.ok()) {
    for (size_t i = 0; i < devices->size(); ++i)
      gpus.push_back(ExamineGpu(static_cast<int>(i), (*devices)[i], options));
  }
  const std::string cuda =
      devices.ok() ? fmt::format("{} device(s)", devices->size()) : std::string(MessageOf(devices.status()));
  if (flags.json) {
    const nlohmann::ordered_json json = {{"version", THERMOCLINE_VERSION},
                                         {"cpu", cpu.model_name},
                                         {"usable_threads", cpu.usable_threads},
                                         {"threads", hardware.threads},
                                         {"memory_bytes", cpu.memory_bytes},
                                         {"available_memory_bytes", cpu.available_memory_bytes},
                                         {"last_level_cache_bytes", cpu.last_level_cache_bytes},
                                         {"isa", BestKernels().isa},
                                         {"available_isas", AvailableIsas()},
                                         {"read_gb_per_second", bandwidth.median()},
                                         {"neuron_gb_per_second", neuron.median()},
                                         {"built_with_cuda", BuiltWithCuda()},
                                         {"cuda", cuda},
                                         {"gpus", gpus}};
    fmt::print("{}\n", json.dump());
    return absl::OkStatus();
  }
  fmt::print("version         {}\n", THERMOCLINE_VERSION);
  fmt::print("cpu             {}\n", cpu.model_name);
  fmt::print("threads         {} (this process may use {})\n", hardware.threads, cpu.usable_threads);
  fmt::print("memory          {}, {} available\n", FormatBytes(cpu.memory_bytes),
             FormatBytes(cpu.available_memory_bytes));
  fmt::print("kernels         {} (the best this CPU runs; it could run {})\n", BestKernels().isa,
             fmt::join(AvailableIsas(), ", "));
  fmt::print("read bandwidth  {:.1f} GB/s (median of {}, {:.1f} to {:.1f})\n", bandwidth.median(),
             bandwidth.values.size(), bandwidth.min(), bandwidth.max());
  fmt::print("neuron kernels  {:.1f} GB/s on active bytes of {} bundles, a tenth of them active\n",
             neuron.median(), NameOf(hardware.cpu_neuron_shape.weight_type));
  fmt::print("cuda            {}\n", cuda);
  for (const auto& gpu : gpus) fmt::print("gpu             {}\n", gpu.dump());
  return absl::OkStatus();
}

}  // namespace

void AddDoctorCommand(CLI::App& program, Command& command) {
  CLI::App* doctor = program.add_subcommand("doctor", "Say what this machine has and what would be used");
  auto flags = std::make_shared<Flags>();
  doctor->add_option("--threads", flags->threads, "CPU threads; 0 takes every usable CPU")
      ->capture_default_str();
  doctor->add_flag("--json", flags->json, "print one JSON object");
  doctor->add_option("--save", flags->save,
                     "write the figures to this file, for --hardware of plan and profile");
  doctor
      ->add_option("--device", flags->device,
                   "measure and save this accelerator too: cuda, host (the emulated one) or none")
      ->capture_default_str();
  doctor->callback([flags, &command] { command.action = [flags] { return Examine(*flags); }; });
}

}  // namespace thermocline
