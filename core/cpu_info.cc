// CpuInfo from sched_getaffinity, /proc, /sys and the cgroup.
// SPDX-License-Identifier: Apache-2.0
#include "core/cpu_info.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_join.h>
#include <absl/strings/str_split.h>
#include <absl/strings/strip.h>
#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {
namespace {

std::string ReadText(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The values of the lines "key : value" of a /proc file's text, in their order.
std::vector<std::string> ProcFields(std::string_view text, std::string_view key) {
  std::vector<std::string> values;
  for (const absl::string_view line : absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    const size_t colon = line.find(':');
    if (colon == absl::string_view::npos) continue;
    const absl::string_view found = absl::StripAsciiWhitespace(line.substr(0, colon));
    if (found == absl::string_view(key.data(), key.size()))
      values.emplace_back(absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return values;
}

int64_t MemoryField(std::string_view text, std::string_view key) {
  const std::vector<std::string> values = ProcFields(text, key);
  int64_t kibibytes = 0;
  if (values.empty() || !absl::SimpleAtoi(absl::StripSuffix(values[0], " kB"), &kibibytes)) return 0;
  return kibibytes * 1024;
}

// The cores of servers and boards that this program is likely to meet.
constexpr struct {
  std::string_view implementer, part, name;
} kArmCores[] = {
    {"0x41", "0xd03", "Cortex-A53"},  {"0x41", "0xd05", "Cortex-A55"},  {"0x41", "0xd07", "Cortex-A57"},
    {"0x41", "0xd08", "Cortex-A72"},  {"0x41", "0xd0b", "Cortex-A76"},  {"0x41", "0xd41", "Cortex-A78"},
    {"0x41", "0xd0c", "Neoverse-N1"}, {"0x41", "0xd40", "Neoverse-V1"}, {"0x41", "0xd49", "Neoverse-N2"},
    {"0x41", "0xd4f", "Neoverse-V2"}, {"0x46", "0x001", "A64FX"},       {"0x48", "0xd01", "Kunpeng-920"},
    {"0xc0", "0xac3", "Ampere-1"},
};

std::string ArmCoreName(std::string_view implementer, std::string_view part) {
  for (const auto& core : kArmCores)
    if (core.implementer == implementer && core.part == part) return std::string(core.name);
  return fmt::format("Arm implementer {} part {}", implementer, part);
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

std::string CpuName(std::string_view cpuinfo) {
  const std::vector<std::string> models = ProcFields(cpuinfo, "model name");
  if (!models.empty() && !models[0].empty()) return models[0];
  const std::vector<std::string> implementers = ProcFields(cpuinfo, "CPU implementer");
  const std::vector<std::string> parts = ProcFields(cpuinfo, "CPU part");
  std::vector<std::string> names;  // each once
  for (size_t i = 0; i < std::min(implementers.size(), parts.size()); ++i) {
    std::string name = ArmCoreName(implementers[i], parts[i]);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names.empty() ? "unknown" : absl::StrJoin(names, " + ");
}

int UsableCpus() {
  int cpus = 1;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) cpus = std::max(1, CPU_COUNT(&set));
  const int quota = CgroupCpus();
  return quota > 0 ? std::min(cpus, quota) : cpus;
}

CpuInfo ReadCpuInfo() {
  CpuInfo info;
  info.model_name = CpuName(ReadText("/proc/cpuinfo"));
  info.usable_threads = UsableCpus();
  info.last_level_cache_bytes = LastLevelCacheBytes();
  const std::string memory = ReadText("/proc/meminfo");
  info.memory_bytes = MemoryField(memory, "MemTotal");
  info.available_memory_bytes = MemoryField(memory, "MemAvailable");
  return info;
}

}  // namespace thermocline
