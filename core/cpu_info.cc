// CpuInfo from sched_getaffinity, /proc, /sys and the cgroup.
// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_info.h"

#include <absl/strings/match.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {
namespace {

// The value of the first line "key : value" of a /proc file; empty when absent.
std::string ProcField(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, {key.data(), key.size()})) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos) return std::string(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return "";
}

int64_t MemoryField(std::string_view key) {
  const std::string text = ProcField("/proc/meminfo", key);
  int64_t kibibytes = 0;
  const std::vector<std::string> words = absl::StrSplit(text, ' ');
  if (words.empty() || !absl::SimpleAtoi(words[0], &kibibytes)) return 0;
  return kibibytes * 1024;
}

// Size of the largest cache that CPU 0 sees ("32768K" in sysfs); 0 where the system does not say.
int64_t LastLevelCacheBytes() {
  int64_t largest = 0;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file("/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/size");
    int64_t kibibytes = 0;
    if (file >> kibibytes) largest = std::max(largest, kibibytes * 1024);
  }
  return largest;
}

// CPUs that the cgroup's quota allows (version 2: "quota period"), rounded up; 0 when there is no quota.
int CgroupCpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  int64_t quota = 0, period = 0;
  if (!(file >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return static_cast<int>((quota + period - 1) / period);
}

}  // namespace

CpuInfo ReadCpuInfo() {
  CpuInfo info;
  info.model_name = ProcField("/proc/cpuinfo", "model name");
  if (info.model_name.empty()) info.model_name = "unknown";
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) info.usable_threads = std::max(1, CPU_COUNT(&set));
  if (const int quota = CgroupCpus(); quota > 0) info.usable_threads = std::min(info.usable_threads, quota);
  info.last_level_cache_bytes = LastLevelCacheBytes();
  info.memory_bytes = MemoryField("MemTotal");
  info.available_memory_bytes = MemoryField("MemAvailable");
  return info;
}

}  // namespace thermocline
