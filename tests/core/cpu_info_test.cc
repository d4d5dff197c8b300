// Facts about the machine are plausible and agree with each other.
// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_info.h"

#include <gtest/gtest.h>

#include <string>
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

TEST(CpuInfo, IsNamedAsX86Says) {
  EXPECT_EQ(CpuName("processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9R14\n\nprocessor\t: 1\n"
                    "model name\t: AMD EPYC 9R14\n"),
            "AMD EPYC 9R14");
}

TEST(CpuInfo, IsNamedByArmsNumbers) {
  const std::string big =
      "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd0b\n\n";
  const std::string little = "processor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd05\n\n";
  EXPECT_EQ(CpuName(big), "Cortex-A76");
  EXPECT_EQ(CpuName(little + big + little + big), "Cortex-A55 + Cortex-A76");
  EXPECT_EQ(CpuName("CPU implementer\t: 0x61\nCPU part\t: 0x023\n"), "Arm implementer 0x61 part 0x023");
}

TEST(CpuInfo, WithoutANameIsUnknown) {
  EXPECT_EQ(CpuName(""), "unknown");
  EXPECT_EQ(CpuName("model name\t:\nCPU implementer\t: 0x41\n"), "unknown");
}

}  // namespace
}  // namespace thermocline
