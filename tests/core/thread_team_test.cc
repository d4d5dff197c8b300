// Every index is visited once, whatever the team's size.
// SPDX-License-Identifier: Apache-2.0
#include "core/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <vector>

namespace thermocline {
namespace {

TEST(ThreadTeam, CoversTheRangeOnce) {
  for (const int threads : {1, 2, 4}) {
    auto team = *ThreadTeam::Create(threads);
    EXPECT_EQ(team->threads(), threads);
    for (const int64_t count : {0, 1, 7, 64, 1000}) {
      std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
      team->ParallelFor(count, 8, [&](int64_t begin, int64_t end) {
        EXPECT_EQ(begin % 8, 0);
        for (int64_t i = begin; i < end; ++i) visits[static_cast<size_t>(i)]++;
      });
      for (const auto& visit : visits) ASSERT_EQ(visit, 1);
    }
  }
}

// Ranges that wait for each other end only when they run on different threads at once.
TEST(ThreadTeam, ATeamRunsInParallelWhateverOtherTeamsThereAre) {
  auto small = *ThreadTeam::Create(1);
  auto team = *ThreadTeam::Create(4);
  std::barrier all_here(4);
  team->ParallelFor(4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) all_here.arrive_and_wait();
  });
}

TEST(ThreadTeam, RefusesAbsurdSizes) {
  EXPECT_EQ(ThreadTeam::Create(0).status(), InvalidArgument("threads is 0, allowed are 1 to 1024"));
  EXPECT_FALSE(ThreadTeam::Create(5000).ok());
}

}  // namespace
}  // namespace thermocline
