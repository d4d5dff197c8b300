// The emulated accelerator runs elsewhere, one operator at a time, and its probe says that it is emulated.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/emulated_probe.h"

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <thread>

namespace thermocline {
namespace {

TEST(EmulatedAccelerator, RunsEveryOperatorOnOneThreadOfItsOwn) {
  auto accelerator = *EmulatedAccelerator::Create();
  std::set<std::thread::id> threads;
  int64_t runs = 0;
  for (int i = 0; i < 2000; ++i) {
    accelerator->Run([&] {
      threads.insert(std::this_thread::get_id());
      ++runs;  // seen below without a lock: Run returns when the operator is done
    });
    ASSERT_EQ(runs, i + 1);
  }
  EXPECT_EQ(threads.size(), 1u);
  EXPECT_FALSE(threads.contains(std::this_thread::get_id()));
}

TEST(EmulatedAccelerator, WakesFromSleepAndIsAwaitedAsleep) {
  auto accelerator = *EmulatedAccelerator::Create();
  const auto longer_than_it_looks = std::chrono::milliseconds(5);
  int runs = 0;
  for (int i = 0; i < 5; ++i) {
    std::this_thread::sleep_for(longer_than_it_looks);
    accelerator->Run([&] {
      std::this_thread::sleep_for(longer_than_it_looks);
      ++runs;
    });
  }
  EXPECT_EQ(runs, 5);
}

TEST(EmulatedAccelerator, EndsWithoutAnyWork) { EXPECT_TRUE(EmulatedAccelerator::Create().ok()); }

TEST(ProbeEmulatedAccelerator, GivesAsManyPositiveSamplesAsAskedAndSaysThatItIsEmulated) {
  const auto profile = ProbeEmulatedAccelerator({.working_set_bytes = 1 << 20, .repetitions = 6});
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_TRUE(profile->emulated);
  EXPECT_EQ(profile->kind, DeviceKind::kHost);
  EXPECT_NE(profile->name.find("emulated"), std::string::npos);
  EXPECT_GT(profile->memory_bytes, 0);
  for (const Samples AcceleratorProfile::*samples :
       {&AcceleratorProfile::read_gb_per_second, &AcceleratorProfile::to_device_pageable_gb_per_second,
        &AcceleratorProfile::to_device_pinned_gb_per_second,
        &AcceleratorProfile::from_device_pageable_gb_per_second,
        &AcceleratorProfile::from_device_pinned_gb_per_second, &AcceleratorProfile::launch_micros,
        &AcceleratorProfile::sync_micros}) {
    EXPECT_EQ(((*profile).*samples).values.size(), 6u);
    EXPECT_GT(((*profile).*samples).min(), 0);
  }
  // The operator starts before it has returned, in every hand-over, so this holds without regard to speed.
  for (size_t i = 0; i < 6; ++i) EXPECT_LE(profile->launch_micros.values[i], profile->sync_micros.values[i]);
}

TEST(ProbeEmulatedAccelerator, RefusesAbsurdOptions) {
  EXPECT_EQ(ProbeEmulatedAccelerator({.working_set_bytes = -1}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ProbeEmulatedAccelerator({.repetitions = 0}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ProbeEmulatedAccelerator({.working_set_bytes = INT64_MAX}).status().code(),
            absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace thermocline
