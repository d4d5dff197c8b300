// The emulated accelerator's thread, and measurements on it.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/emulated_probe.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <system_error>
#include <utility>

#include "core/buffer.h"
#include "core/cpu_info.h"
#include "core/thread_team.h"
#include "profiler/bandwidth.h"
#include "profiler/probe_samples.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kHandOversPerSample = 200;

double MicrosBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::micro>(end - begin).count();
}

// Keeps pages in memory while it lives, where the process's limit allows that many.
class PageLock {
 public:
  explicit PageLock(const AlignedBuffer& buffer)
      : buffer_(buffer), locked_(mlock(buffer.data(), static_cast<size_t>(buffer.size_bytes())) == 0) {}
  ~PageLock() {
    if (locked_) munlock(buffer_.data(), static_cast<size_t>(buffer_.size_bytes()));
  }
  PageLock(const PageLock&) = delete;
  PageLock& operator=(const PageLock&) = delete;

 private:
  const AlignedBuffer& buffer_;
  const bool locked_;
};

// Copies on the accelerator's thread. The last byte tells that the copy happened.
Samples MeasureCopy(EmulatedAccelerator& accelerator, AlignedBuffer& source, AlignedBuffer& target,
                    int repetitions) {
  const int64_t bytes = source.size_bytes();
  source.bytes().back() = std::byte{1};
  target.bytes().back() = std::byte{0};
  Samples samples = SampleBandwidth(repetitions, bytes, [&] {
    accelerator.Run([&] { std::memcpy(target.data(), source.data(), static_cast<size_t>(bytes)); });
  });
  TC_CHECK(target.bytes().back() == std::byte{1});
  return samples;
}

absl::Status MeasureLinks(EmulatedAccelerator& accelerator, int64_t bytes, int repetitions,
                          AcceleratorProfile& profile) {
  TC_ASSIGN_OR_RETURN(AlignedBuffer host, AlignedBuffer::Create(bytes));
  absl::StatusOr<AlignedBuffer> device;
  accelerator.Run([&] { device = AlignedBuffer::Create(bytes); });
  TC_RETURN_IF_ERROR(device.status());
  profile.to_device_pageable_gb_per_second = MeasureCopy(accelerator, host, *device, repetitions);
  profile.from_device_pageable_gb_per_second = MeasureCopy(accelerator, *device, host, repetitions);
  const PageLock lock(host);
  profile.to_device_pinned_gb_per_second = MeasureCopy(accelerator, host, *device, repetitions);
  profile.from_device_pinned_gb_per_second = MeasureCopy(accelerator, *device, host, repetitions);
  return absl::OkStatus();
}

void MeasureHandOvers(EmulatedAccelerator& accelerator, int repetitions, AcceleratorProfile& profile) {
  accelerator.Run([] {});  // awake
  for (int i = 0; i < repetitions; ++i) {
    Samples launch, sync;
    for (int n = 0; n < kHandOversPerSample; ++n) {
      const Clock::time_point posted = Clock::now();
      Clock::time_point started;
      accelerator.Run([&] { started = Clock::now(); });
      const Clock::time_point returned = Clock::now();
      launch.values.push_back(MicrosBetween(posted, started));
      sync.values.push_back(MicrosBetween(posted, returned));
    }
    profile.launch_micros.values.push_back(launch.median());
    profile.sync_micros.values.push_back(sync.median());
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<EmulatedAccelerator>> EmulatedAccelerator::Create() {
  std::unique_ptr<EmulatedAccelerator> accelerator(new EmulatedAccelerator);
  try {
    accelerator->thread_ = std::thread(&EmulatedAccelerator::Loop, accelerator.get());
  } catch (const std::system_error& error) {
    return ResourceExhausted("emulated accelerator: no thread: {}", error.what());
  }
  return accelerator;
}

EmulatedAccelerator::~EmulatedAccelerator() {
  if (!thread_.joinable()) return;
  work_ = nullptr;
  posted_.Announce();
  thread_.join();
}

void EmulatedAccelerator::Run(absl::FunctionRef<void()> work) {
  work_ = &work;
  posted_.Announce();
  finished_.AwaitChange(runs_++);
}

void EmulatedAccelerator::Loop() {
  for (uint32_t seen = 0;; ++seen) {
    posted_.AwaitChange(seen);
    if (work_ == nullptr) return;
    (*work_)();
    finished_.Announce();
  }
}

absl::StatusOr<AcceleratorProfile> ProbeEmulatedAccelerator(const EmulatedProbeOptions& options) {
  if (options.working_set_bytes < 0 || options.repetitions < 1) {
    return InvalidArgument("emulated accelerator: {} bytes and {} repetitions, allowed are from 0 and from 1",
                           options.working_set_bytes, options.repetitions);
  }
  const int64_t bytes =
      options.working_set_bytes == 0 ? UncachedWorkingSetBytes() : options.working_set_bytes;
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<EmulatedAccelerator> accelerator, EmulatedAccelerator::Create());
  AcceleratorProfile profile{.name = "emulated accelerator",
                             .kind = DeviceKind::kHost,
                             .emulated = true,
                             .memory_bytes = ReadCpuInfo().memory_bytes};
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> alone, ThreadTeam::Create(1));
  absl::StatusOr<Samples> read;
  accelerator->Run([&] {
    read = MeasureReadBandwidth(*alone, {.working_set_bytes = bytes, .repetitions = options.repetitions});
  });
  TC_RETURN_IF_ERROR(read.status());
  profile.read_gb_per_second = *std::move(read);
  TC_RETURN_IF_ERROR(MeasureLinks(*accelerator, bytes, options.repetitions, profile));
  MeasureHandOvers(*accelerator, options.repetitions, profile);
  return profile;
}

}  // namespace thermocline
