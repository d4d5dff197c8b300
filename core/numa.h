// NUMA nodes: which CPUs are near which memory, and where threads and pages go.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace thermocline {

enum class NumaPolicy {
  kDistribute,  // threads are kept on nodes in their order, and pages lie with the thread that fills them
  kInterleave,  // pages go to the nodes in turn, threads where the system likes
  kOff,         // as the system or `numactl` has it
};
// InvalidArgument, naming those that there are, for any other name than "distribute", "interleave" and "off".
absl::StatusOr<NumaPolicy> ParseNumaPolicy(std::string_view name);

struct NumaNode {
  int number = 0;         // the system's
  std::vector<int> cpus;  // of this process, ascending
};

// The nodes with CPUs that this process may use, ascending; node 0 with all of them where the
// system does not say.
std::vector<NumaNode> ReadNumaNodes();
// The same of a folder like /sys/devices/system/node and of a process that may use `usable`, ascending.
std::vector<NumaNode> NumaNodesIn(const std::filesystem::path& folder, std::span<const int> usable);

// On which of the nodes (its index) thread `thread` of `threads` belongs: the first ones on the first, as
// many as its share of the CPUs. nodes: at least one.
size_t NodeOfThread(std::span<const NumaNode> nodes, int thread, int threads);

// From now on pages that this thread and those it starts touch first go to the nodes in turn.
// FailedPrecondition where the system refuses, as containers may.
absl::Status InterleaveMemory(std::span<const NumaNode> nodes);

}  // namespace thermocline
