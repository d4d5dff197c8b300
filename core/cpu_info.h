// What processor this is: name, logical CPUs this process may use, caches, memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline {

struct CpuInfo {
  std::string model_name;
  int usable_threads = 1;              // CPUs in this process's affinity mask, capped by the cgroup's quota
  int64_t last_level_cache_bytes = 0;  // 0 where the system does not say
  int64_t memory_bytes = 0;
  int64_t available_memory_bytes = 0;
};

CpuInfo ReadCpuInfo();
// Its usable_threads alone.
int UsableCpus();

// What the text of /proc/cpuinfo calls the processor. x86 names the model; Arm gives numbers for implementer
// and part, which become names where they are known here ("Cortex-A55 + Cortex-A76" where cores differ) and
// stay numbers elsewhere. "unknown" when neither is there.
std::string CpuName(std::string_view cpuinfo);

}  // namespace thermocline
