// NUMA nodes from sysfs, and the memory policy by its system call.
// SPDX-License-Identifier: Apache-2.0
#include "core/numa.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

namespace thermocline {
namespace {

constexpr int kMostNodes = 1024;  // the kernel's limit

// Whether a list as sysfs writes them ("0-3,8") has the CPU. What cannot be read has none.
class CpuList {
 public:
  explicit CpuList(const std::filesystem::path& path) {
    std::ifstream file(path);
    const std::string text((std::istreambuf_iterator<char>(file)), {});
    for (const absl::string_view range : absl::StrSplit(absl::StripAsciiWhitespace(text), ',')) {
      const std::vector<absl::string_view> ends = absl::StrSplit(range, absl::MaxSplits('-', 1));
      int first = 0, last = 0;
      if (absl::SimpleAtoi(ends.front(), &first) && absl::SimpleAtoi(ends.back(), &last))
        ranges_.push_back({first, last});
    }
  }
  bool Has(int cpu) const {
    return std::ranges::any_of(ranges_,
                               [cpu](const Range& range) { return range.first <= cpu && cpu <= range.last; });
  }

 private:
  struct Range {
    int first, last;
  };
  std::vector<Range> ranges_;
};

}  // namespace

absl::StatusOr<NumaPolicy> ParseNumaPolicy(std::string_view name) {
  if (name == "distribute") return NumaPolicy::kDistribute;
  if (name == "interleave") return NumaPolicy::kInterleave;
  if (name == "off") return NumaPolicy::kOff;
  return InvalidArgument("'{}' is unknown; known are distribute, interleave, off", name);
}

std::vector<NumaNode> NumaNodesIn(const std::filesystem::path& folder, std::span<const int> usable) {
  std::vector<NumaNode> nodes;
  std::error_code error;  // a folder that is not there has no entries
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    NumaNode node;
    if (!name.starts_with("node") || !absl::SimpleAtoi(name.substr(4), &node.number)) continue;
    const CpuList cpus(entry.path() / "cpulist");
    std::ranges::copy_if(usable, std::back_inserter(node.cpus), [&](int cpu) { return cpus.Has(cpu); });
    if (!node.cpus.empty()) nodes.push_back(std::move(node));
  }
  std::ranges::sort(nodes, {}, &NumaNode::number);
  if (nodes.empty()) nodes.push_back({.number = 0, .cpus = {usable.begin(), usable.end()}});
  return nodes;
}

std::vector<NumaNode> ReadNumaNodes() {
  std::vector<int> usable;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) usable.push_back(cpu);
  }
  return NumaNodesIn("/sys/devices/system/node", usable);
}

size_t NodeOfThread(std::span<const NumaNode> nodes, int thread, int threads) {
  size_t cpus = 0;
  for (const NumaNode& node : nodes) cpus += node.cpus.size();
  size_t cpu = static_cast<size_t>(thread) * cpus / static_cast<size_t>(threads);
  for (size_t n = 0; n < nodes.size(); ++n) {
    if (cpu < nodes[n].cpus.size()) return n;
    cpu -= nodes[n].cpus.size();
  }
  return nodes.size() - 1;
}

absl::Status InterleaveMemory(std::span<const NumaNode> nodes) {
  constexpr int kWordBits = 8 * sizeof(unsigned long);
  unsigned long mask[kMostNodes / kWordBits] = {};
  for (const NumaNode& node : nodes)
    if (node.number < kMostNodes) mask[node.number / kWordBits] |= 1UL << node.number % kWordBits;
  // The kernel takes one bit less than it is told.
  if (syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, mask, kMostNodes + 1) != 0)
    return FailedPrecondition("the system refuses to interleave memory: {}", std::strerror(errno));
  return absl::OkStatus();
}

}  // namespace thermocline
