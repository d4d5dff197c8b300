// The device list answers clearly in every build and on every machine.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/device_info.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(DeviceInfo, AnswersWithDevicesOrAReason) {
  const auto devices = ListCudaDevices();
  if (devices.ok()) {
    EXPECT_TRUE(BuiltWithCuda());
    for (const CudaDeviceInfo& device : *devices) {
      EXPECT_FALSE(device.name.empty());
      EXPECT_GT(device.memory_bytes, 0);
    }
  } else {
    EXPECT_EQ(devices.status().code(),
              BuiltWithCuda() ? absl::StatusCode::kUnavailable : absl::StatusCode::kUnimplemented);
    EXPECT_FALSE(devices.status().message().empty());
  }
}

}  // namespace
}  // namespace thermocline
