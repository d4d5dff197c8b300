// Every index is visited once, whatever the team's size and kind; a spinning team's threads go to sleep.
// SPDX-License-Identifier: Apache-2.0
#include "core/thread_team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace thermocline {
namespace {

class ThreadTeamTest : public testing::TestWithParam<TeamKind> {
 protected:
  static std::unique_ptr<ThreadTeam> Create(int threads) {
    return *ThreadTeam::Create(threads, {.kind = GetParam(), .nodes = {}});
  }
};

TEST_P(ThreadTeamTest, CoversTheRangeOnce) {
  for (const int threads : {1, 2, 4}) {
    const auto team = Create(threads);
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
TEST_P(ThreadTeamTest, RunsInParallelWhateverOtherTeamsThereAre) {
  const auto small = Create(1);
  const auto team = Create(4);
  std::barrier all_here(4);
  team->ParallelFor(4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) all_here.arrive_and_wait();
  });
}

// What a loop writes the next one reads without any other order between their threads, as operators do.
TEST_P(ThreadTeamTest, ManyTinyLoopsOfChangingSizeSeeEachOthersWrites) {
  const auto team = Create(4);
  constexpr int64_t kLoops = 2000;
  std::vector<int64_t> values(8, 0);
  for (int64_t loop = 0; loop < kLoops; ++loop) {
    const auto count = static_cast<size_t>(2 + loop % 7);
    std::vector<int64_t> next(values.size(), loop + 1);
    team->ParallelFor(static_cast<int64_t>(count), 1, [&](int64_t begin, int64_t end) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        next[i] = values[(i + 1) % values.size()] + 1;
    });
    values = std::move(next);
  }
  EXPECT_EQ(values, std::vector<int64_t>(8, kLoops));
}

TEST_P(ThreadTeamTest, ServesSeveralCallersAtOnceAndNestedLoops) {
  const auto team = Create(3);
  std::atomic<int64_t> visits = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      for (int loop = 0; loop < 50; ++loop) {
        team->ParallelFor(6, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i)
            team->ParallelFor(5, 1, [&](int64_t first, int64_t last) { visits += last - first; });
        });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(visits, 3 * 50 * 6 * 5);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ThreadTeamTest, testing::Values(TeamKind::kSpin, TeamKind::kTbb),
                         [](const testing::TestParamInfo<TeamKind>& kind) {
                           return kind.param == TeamKind::kSpin ? "spin" : "tbb";
                         });

TEST(ThreadTeam, RefusesAbsurdSizes) {
  EXPECT_EQ(ThreadTeam::Create(0).status(), InvalidArgument("threads is 0, allowed are 1 to 1024"));
  EXPECT_FALSE(ThreadTeam::Create(5000).ok());
}

TEST(ThreadTeam, KindsHaveNames) {
  EXPECT_EQ(*ParseTeamKind("spin"), TeamKind::kSpin);
  EXPECT_EQ(*ParseTeamKind("tbb"), TeamKind::kTbb);
  EXPECT_EQ(ParseTeamKind("omp").status(), InvalidArgument("'omp' is unknown; known are spin and tbb"));
}

// The states (proc(5)) of this process's threads that belong to spinning teams.
std::string StatesOfTeams() {
  std::string states;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "stat");
    std::string number, name;
    char state = '?';
    if (file >> number >> name >> state && name == "(thread-team)") states += state;
  }
  return states;
}

TEST(SpinningTeam, ThreadsSleepBetweenRequestsAndWakeUp) {
  using Clock = std::chrono::steady_clock;
  const auto team = *ThreadTeam::Create(4);
  for (int request = 0; request < 3; ++request) {
    std::barrier all_here(4);
    team->ParallelFor(4, 1, [&](int64_t, int64_t) { all_here.arrive_and_wait(); });
    const Clock::time_point deadline = Clock::now() + std::chrono::seconds(60);
    std::string states = StatesOfTeams();
    while (states != "SSS" && Clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      states = StatesOfTeams();
    }
    ASSERT_EQ(states, "SSS");
  }
}

// A loop of two parts must not need the threads that it has no part for, asleep or not.
TEST(SpinningTeam, SmallLoopsLeaveTheOthersAlone) {
  const auto team = *ThreadTeam::Create(4);
  std::atomic<int64_t> sum = 0;
  for (const int64_t count : {2, 4, 2, 3, 2})
    for (int loop = 0; loop < 300; ++loop)
      team->ParallelFor(count, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  EXPECT_EQ(sum, 300 * (2 + 4 + 2 + 3 + 2));
}

}  // namespace
}  // namespace thermocline
