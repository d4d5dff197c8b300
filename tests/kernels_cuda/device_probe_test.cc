// The device probe measures, or answers clearly, in every build and on every machine.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/device_probe.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

constexpr int64_t kSmallBytes = int64_t{1} << 20;

TEST(ProbeCudaDevice, GivesAsManyPositiveSamplesAsAskedOrTheDriversWords) {
  const auto devices = ListCudaDevices();
  const auto probe =
      ProbeCudaDevice({.device = 0, .repetitions = 3, .copy_bytes = kSmallBytes, .link_bytes = kSmallBytes});
  if (!devices.ok()) {
    EXPECT_EQ(probe.status(), devices.status());
    EXPECT_FALSE(probe.status().message().empty());
    return;
  }
  ASSERT_TRUE(probe.ok()) << probe.status();
  EXPECT_EQ(probe->device.name, devices->front().name);
  for (const Samples* samples :
       {&probe->copy_gb_per_second, &probe->to_device_pageable_gb_per_second,
        &probe->to_device_pinned_gb_per_second, &probe->from_device_pageable_gb_per_second,
        &probe->from_device_pinned_gb_per_second, &probe->launch_micros, &probe->sync_micros}) {
    EXPECT_EQ(samples->values.size(), 3u);
    EXPECT_GT(samples->min(), 0);
  }
}

TEST(ProbeCudaDevice, RefusesOptionsOutOfRange) {
  const auto devices = ListCudaDevices();
  if (!devices.ok()) GTEST_SKIP() << devices.status();
  const int beyond = static_cast<int>(devices->size());
  for (const DeviceProbeOptions& options :
       {DeviceProbeOptions{.device = beyond}, DeviceProbeOptions{.device = -1},
        DeviceProbeOptions{.repetitions = 0}, DeviceProbeOptions{.copy_bytes = 0},
        DeviceProbeOptions{.link_bytes = -1}}) {
    EXPECT_EQ(ProbeCudaDevice(options).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace thermocline
