// Device probe through the CUDA runtime.
// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "core/timer.h"
#include "kernels_cuda/cuda_resources.h"
#include "kernels_cuda/device_probe.h"
#include "kernels_cuda/device_probe_kernels.h"

namespace thermocline {

using namespace TC_GPU_NAMESPACE;

namespace {

constexpr int64_t kLeastBytes = int64_t{1} << 20;
constexpr int kHandOversPerSample = 64;
constexpr double kSignalTimeoutSeconds = 1;

// What the measurements of one device share. Work goes to `stream`, one piece at a time.
struct Probe {
  CudaStream stream;
  CudaEvent begin;
  CudaEvent end;
  int repetitions;

  // One uncounted call of `seconds`, a StatusOr<double>(), then a sample a repetition.
  template <typename Seconds>
  absl::StatusOr<std::vector<double>> Sample(const Seconds& seconds) const {
    std::vector<double> values;
    for (int i = 0; i <= repetitions; ++i) {
      TC_ASSIGN_OR_RETURN(const double value, seconds());
      if (i > 0) values.push_back(value);
    }
    return values;
  }

  absl::StatusOr<double> CopySecondsOnDevice(std::byte* target, const std::byte* source, int64_t bytes,
                                             cudaMemcpyKind kind) const {
    TC_CUDA_RETURN_IF_ERROR(cudaEventRecord(begin.get(), stream.get()));
    TC_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), kind, stream.get()));
    TC_CUDA_RETURN_IF_ERROR(cudaEventRecord(end.get(), stream.get()));
    TC_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(end.get()));
    float millis = 0;
    TC_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&millis, begin.get(), end.get()));
    if (!(millis > 0)) return Internal("cudaEventElapsedTime: a copy of {} bytes took no time", bytes);
    return millis * 1e-3;
  }

  // Pageable memory is staged by the host, which events do not see.
  absl::StatusOr<double> CopySecondsOnHost(std::byte* target, const std::byte* source, int64_t bytes,
                                           cudaMemcpyKind kind) const {
    const Stopwatch watch;
    TC_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), kind, stream.get()));
    TC_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream.get()));
    return watch.Seconds();
  }
};

Samples GbPerSecond(int64_t bytes, const std::vector<double>& seconds) {
  Samples samples;
  for (const double s : seconds) samples.values.push_back(static_cast<double>(bytes) / s * 1e-9);
  return samples;
}

Samples Micros(const std::vector<double>& seconds) {
  Samples samples;
  for (const double s : seconds) samples.values.push_back(s * 1e6);
  return samples;
}

// The median time of a number of hand-overs, each a StatusOr<double>().
template <typename Seconds>
absl::StatusOr<double> MedianOfHandOvers(const Seconds& hand_over) {
  Samples samples;
  for (int i = 0; i < kHandOversPerSample; ++i) {
    TC_ASSIGN_OR_RETURN(const double seconds, hand_over());
    samples.values.push_back(seconds);
  }
  return samples.median();
}

// `wanted` bytes, or what a quarter of the device's free memory holds.
absl::StatusOr<int64_t> AffordableBytes(int64_t wanted) {
  size_t free_bytes = 0, total_bytes = 0;
  TC_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&free_bytes, &total_bytes));
  const int64_t affordable = static_cast<int64_t>(free_bytes / 4);
  if (affordable < kLeastBytes) {
    return ResourceExhausted("{} bytes of the device's memory are free, the probe needs {}", free_bytes,
                             4 * kLeastBytes);
  }
  return std::min(wanted, affordable);
}

absl::Status MeasureMemory(const Probe& probe, int64_t wanted_bytes, DeviceProbe& result) {
  TC_ASSIGN_OR_RETURN(const int64_t bytes, AffordableBytes(wanted_bytes));
  TC_ASSIGN_OR_RETURN(const DeviceMemory source, AllocateDeviceMemory(bytes));
  TC_ASSIGN_OR_RETURN(const DeviceMemory target, AllocateDeviceMemory(bytes));
  TC_CUDA_RETURN_IF_ERROR(cudaMemsetAsync(source.get(), 1, static_cast<size_t>(bytes), probe.stream.get()));
  TC_ASSIGN_OR_RETURN(const std::vector<double> seconds, probe.Sample([&] {
    return probe.CopySecondsOnDevice(target.get(), source.get(), bytes, cudaMemcpyDeviceToDevice);
  }));
  result.copy_gb_per_second = GbPerSecond(2 * bytes, seconds);
  return absl::OkStatus();
}

absl::Status MeasureLink(const Probe& probe, int64_t wanted_bytes, DeviceProbe& result) {
  TC_ASSIGN_OR_RETURN(const int64_t bytes, AffordableBytes(wanted_bytes));
  TC_ASSIGN_OR_RETURN(const DeviceMemory device, AllocateDeviceMemory(bytes));
  {
    TC_ASSIGN_OR_RETURN(AlignedBuffer host, AlignedBuffer::Create(bytes));
    TC_ASSIGN_OR_RETURN(const std::vector<double> to, probe.Sample([&] {
      return probe.CopySecondsOnHost(device.get(), host.data(), bytes, cudaMemcpyHostToDevice);
    }));
    TC_ASSIGN_OR_RETURN(const std::vector<double> from, probe.Sample([&] {
      return probe.CopySecondsOnHost(host.data(), device.get(), bytes, cudaMemcpyDeviceToHost);
    }));
    result.to_device_pageable_gb_per_second = GbPerSecond(bytes, to);
    result.from_device_pageable_gb_per_second = GbPerSecond(bytes, from);
  }
  TC_ASSIGN_OR_RETURN(const PinnedMemory host, AllocatePinnedMemory(bytes));
  std::fill_n(host.get(), bytes, std::byte{1});
  TC_ASSIGN_OR_RETURN(const std::vector<double> to, probe.Sample([&] {
    return probe.CopySecondsOnDevice(device.get(), host.get(), bytes, cudaMemcpyHostToDevice);
  }));
  TC_ASSIGN_OR_RETURN(const std::vector<double> from, probe.Sample([&] {
    return probe.CopySecondsOnDevice(host.get(), device.get(), bytes, cudaMemcpyDeviceToHost);
  }));
  result.to_device_pinned_gb_per_second = GbPerSecond(bytes, to);
  result.from_device_pinned_gb_per_second = GbPerSecond(bytes, from);
  return absl::OkStatus();
}

absl::Status MeasureLatency(const Probe& probe, DeviceProbe& result) {
  TC_ASSIGN_OR_RETURN(const PinnedMemory memory, AllocatePinnedMemory(sizeof(uint32_t)));
  auto* const host_word = reinterpret_cast<uint32_t*>(memory.get());
  void* device_address = nullptr;
  TC_CUDA_RETURN_IF_ERROR(cudaHostGetDevicePointer(&device_address, memory.get(), 0));
  auto* const device_word = static_cast<uint32_t*>(device_address);
  const std::atomic_ref<uint32_t> seen(*host_word);
  seen.store(0);
  uint32_t sent = 0;

  const auto launch = [&]() -> absl::StatusOr<double> {
    ++sent;
    const Stopwatch since_call;
    TC_CUDA_RETURN_IF_ERROR(LaunchSignal(device_word, sent, probe.stream.get()));
    const Stopwatch since_return;  // the first launch may load code for long
    bool arrived = false;
    do arrived = seen.load(std::memory_order_acquire) == sent;
    while (!arrived && since_return.Seconds() < kSignalTimeoutSeconds);
    const double seconds = since_call.Seconds();
    // Also says why, where the kernel did not run.
    TC_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(probe.stream.get()));
    if (!arrived) return Unavailable("CUDA device: no kernel started within {} s", kSignalTimeoutSeconds);
    return seconds;
  };
  const auto join = [&]() -> absl::StatusOr<double> {
    const Stopwatch watch;
    TC_CUDA_RETURN_IF_ERROR(LaunchNothing(probe.stream.get()));
    TC_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(probe.stream.get()));
    return watch.Seconds();
  };
  TC_ASSIGN_OR_RETURN(const std::vector<double> launches,
                      probe.Sample([&] { return MedianOfHandOvers(launch); }));
  TC_ASSIGN_OR_RETURN(const std::vector<double> joins, probe.Sample([&] { return MedianOfHandOvers(join); }));
  result.launch_micros = Micros(launches);
  result.sync_micros = Micros(joins);
  return absl::OkStatus();
}

absl::Status Validate(const DeviceProbeOptions& options, size_t devices) {
  if (options.device < 0 || static_cast<size_t>(options.device) >= devices)
    return InvalidArgument("CUDA device {}: there are {}, counted from 0", options.device, devices);
  if (options.repetitions < 1 || options.copy_bytes < 1 || options.link_bytes < 1) {
    return InvalidArgument("CUDA probe: {} repetitions, {} and {} bytes, allowed are 1 and above",
                           options.repetitions, options.copy_bytes, options.link_bytes);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<DeviceProbe> ProbeCudaDevice(const DeviceProbeOptions& options) {
  TC_ASSIGN_OR_RETURN(const std::vector<CudaDeviceInfo> devices, ListCudaDevices());
  TC_RETURN_IF_ERROR(Validate(options, devices.size()));
  DeviceProbe result{.device = devices[static_cast<size_t>(options.device)]};
  TC_ASSIGN_OR_RETURN(const CurrentDevice current, CurrentDevice::Create(options.device));
  Probe probe{.repetitions = options.repetitions};
  TC_ASSIGN_OR_RETURN(probe.stream, CreateCudaStream());
  TC_ASSIGN_OR_RETURN(probe.begin, CreateCudaEvent(/*timed=*/true));
  TC_ASSIGN_OR_RETURN(probe.end, CreateCudaEvent(/*timed=*/true));
  TC_RETURN_IF_ERROR(MeasureMemory(probe, options.copy_bytes, result));
  TC_RETURN_IF_ERROR(MeasureLink(probe, options.link_bytes, result));
  TC_RETURN_IF_ERROR(MeasureLatency(probe, result));
  return result;
}

}  // namespace thermocline
