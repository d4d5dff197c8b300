// Facts about the machine are plausible and agree with each other.
// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_info.h"

#include <gtest/gtest.h>

#include <thread>

namespace thermocline {
namespace {

TEST(CpuInfo, IsConsistent) {
  const CpuInfo info = ReadCpuInfo();
  EXPECT_FALSE(info.model_name.empty());
  EXPECT_GE(info.usable_threads, 1);
  EXPECT_LE(info.usable_threads, static_cast<int>(std::thread::hardware_concurrency()));
  EXPECT_GE(info.last_level_cache_bytes, 0);
  EXPECT_GT(info.available_memory_bytes, 0);
  EXPECT_LE(info.available_memory_bytes, info.memory_bytes);
}

}  // namespace
}  // namespace thermocline
