// NUMA topologies made up in a folder, and the policy that the system takes.
// SPDX-License-Identifier: Apache-2.0
#include "core/numa.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <barrier>
#include <fstream>
#include <string>
#include <thread>

#include "core/thread_team.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

void MakeNode(const TemporaryFolder& folder, const std::string& name, const std::string& cpus) {
  const std::filesystem::path node = std::filesystem::path(folder.path()) / name;
  std::filesystem::create_directories(node);
  std::ofstream(node / "cpulist") << cpus << '\n';
}

TEST(Numa, NodesHaveTheCpusThatTheProcessMayUse) {
  const TemporaryFolder folder;
  MakeNode(folder, "node0", "0-3,8-11");
  MakeNode(folder, "node10", "12");
  MakeNode(folder, "node2", "4-7");
  MakeNode(folder, "node3", "");  // memory without CPUs
  MakeNode(folder, "nodes", "0-12");
  std::ofstream(std::filesystem::path(folder.path()) / "online") << "0-3\n";
  const std::vector<int> usable = {1, 2, 5, 8, 12};
  const std::vector<NumaNode> nodes = NumaNodesIn(folder.path(), usable);
  ASSERT_EQ(nodes.size(), 3u);
  EXPECT_EQ(nodes[0].number, 0);
  EXPECT_EQ(nodes[0].cpus, (std::vector<int>{1, 2, 8}));
  EXPECT_EQ(nodes[1].number, 2);
  EXPECT_EQ(nodes[1].cpus, std::vector<int>{5});
  EXPECT_EQ(nodes[2].number, 10);
  EXPECT_EQ(nodes[2].cpus, std::vector<int>{12});
}

TEST(Numa, WithoutATopologyThereIsOneNode) {
  const std::vector<int> usable = {0, 3};
  const std::vector<NumaNode> nodes = NumaNodesIn("/no/such/folder", usable);
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].cpus, usable);
}

TEST(Numa, ThreadsGoToNodesByTheirShareOfTheCpus) {
  const std::vector<NumaNode> nodes = {{0, {0, 1, 2, 3}}, {1, {4, 5}}};
  const auto all = [&](int threads) {
    std::string result;
    for (int t = 0; t < threads; ++t) result += std::to_string(NodeOfThread(nodes, t, threads));
    return result;
  };
  EXPECT_EQ(all(6), "000011");
  EXPECT_EQ(all(3), "001");
  EXPECT_EQ(all(2), "00");
  EXPECT_EQ(all(12), "000000001111");
}

TEST(Numa, PoliciesHaveNames) {
  EXPECT_EQ(*ParseNumaPolicy("distribute"), NumaPolicy::kDistribute);
  EXPECT_EQ(*ParseNumaPolicy("interleave"), NumaPolicy::kInterleave);
  EXPECT_EQ(*ParseNumaPolicy("off"), NumaPolicy::kOff);
  EXPECT_EQ(ParseNumaPolicy("numactl").status(),
            InvalidArgument("'numactl' is unknown; known are distribute, interleave, off"));
}

// On the nodes that there are: taken, or refused in words where a container forbids it.
TEST(Numa, InterleavingIsTakenOrRefused) {
  std::thread([] {  // the policy ends with the thread
    const absl::Status status = InterleaveMemory(ReadNumaNodes());
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_FALSE(InterleaveMemory({}).ok());  // no node to put anything on
  })
      .join();
}

// A made-up topology: each CPU of this process is a node.
TEST(Numa, ATeamsThreadsAreKeptOnTheirNodes) {
  std::vector<NumaNode> nodes;
  for (const NumaNode& node : ReadNumaNodes())
    for (const int cpu : node.cpus) nodes.push_back({static_cast<int>(nodes.size()), {cpu}});
  constexpr int kThreads = 4;
  const auto team = *ThreadTeam::Create(kThreads, {.kind = TeamKind::kSpin, .nodes = nodes});
  std::barrier all_here(kThreads);
  team->ParallelFor(kThreads, 1, [&](int64_t begin, int64_t) {
    all_here.arrive_and_wait();  // else the caller may run a range for another thread
    if (begin == 0) return;      // the caller's
    cpu_set_t set;
    CPU_ZERO(&set);
    ASSERT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
    EXPECT_EQ(CPU_COUNT(&set), 1);
    EXPECT_TRUE(CPU_ISSET(nodes[NodeOfThread(nodes, static_cast<int>(begin), kThreads)].cpus[0], &set));
  });
}

}  // namespace
}  // namespace thermocline
