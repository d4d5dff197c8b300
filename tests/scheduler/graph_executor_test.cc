// Every operator runs once, after its prerequisites, on its device's thread, whatever the graph and delays.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/graph_executor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <random>
#include <set>
#include <span>
#include <string>
#include <thread>

namespace thermocline {
namespace {

constexpr std::chrono::milliseconds kLongerThanAnIdleExecutorLooks{2};

enum class Delays { kNone, kRandom };

// Mostly none or short, sometimes so long that waiting executors fall asleep. A hash of what it is called
// with, so that operators on several threads need no shared generator.
void Delay(uint64_t seed) {
  seed = (seed ^ (seed >> 31)) * 0x9e3779b97f4a7c15u;
  const uint64_t draw = (seed >> 40) % 1000;
  if (draw < 300) std::this_thread::yield();
  if (draw == 999) std::this_thread::sleep_for(std::chrono::microseconds(1200));
}

// A random graph whose operators record in plain memory, so that ThreadSanitizer sees a missing order and the
// checks a wrong one.
class RecordingGraph {
 public:
  RecordingGraph(int64_t operators, int32_t devices, double share_optional, Delays delays, uint32_t seed)
      : delays_(delays),
        seed_(seed),
        runs_(static_cast<size_t>(operators)),
        expected_runs_(static_cast<size_t>(operators)),
        asked_(static_cast<size_t>(operators)),
        needed_(static_cast<size_t>(operators)),
        digests_(static_cast<size_t>(operators)),
        threads_(static_cast<size_t>(devices)) {
    std::mt19937 random(seed);
    for (int64_t i = 0; i < operators; ++i) AddRandom(i, devices, share_optional, random);
  }

  const OperatorGraph& graph() const { return graph_; }

  // Before each run.
  void DrawWhatIsNeeded(uint32_t seed) {
    ++run_;
    std::mt19937 random(seed);
    for (char& needed : needed_) needed = random() % 3 != 0;
  }

  // After it.
  void CheckRun(std::span<const OperatorTiming> timings) {
    ASSERT_EQ(timings.size(), runs_.size());
    for (size_t i = 0; i < runs_.size(); ++i) ASSERT_NO_FATAL_FAILURE(CheckOperator(i, timings));
    for (const std::set<std::thread::id>& of_device : threads_) ASSERT_LE(of_device.size(), 1u);
    ASSERT_TRUE(threads_[0].empty() || threads_[0].contains(std::this_thread::get_id()));
  }

 private:
  void AddRandom(int64_t i, int32_t devices, double share_optional, std::mt19937& random) {
    Operator added;
    added.name = std::to_string(i);
    added.device = static_cast<int32_t>(random() % static_cast<uint32_t>(devices));
    const int64_t prerequisites = i == 0 ? 0 : static_cast<int64_t>(random() % 4);
    std::set<OperatorId> chosen;
    for (int64_t p = 0; p < prerequisites; ++p) {
      const int64_t reach = std::min<int64_t>(i, 8);
      chosen.insert(static_cast<OperatorId>(i - 1 - static_cast<int64_t>(random()) % reach));
    }
    added.prerequisites.assign(chosen.begin(), chosen.end());
    const size_t index = static_cast<size_t>(i);
    added.work = [this, index, device = static_cast<size_t>(added.device)] {
      if (delays_ == Delays::kRandom) Delay(seed_ + (static_cast<uint64_t>(run_) << 20) + index);
      threads_[device].insert(std::this_thread::get_id());
      ++runs_[index];
      digests_[index] = DigestOf(index);
    };
    if (std::uniform_real_distribution<>()(random) < share_optional) {
      added.needed = [this, index] {
        ++asked_[index];
        digests_[index] = -DigestOf(index);  // stays where it is skipped
        return needed_[index] != 0;
      };
    }
    graph_.Add(std::move(added));
  }

  // Made of the run's number and what the prerequisites wrote: shows a value that is missing or old.
  int64_t DigestOf(size_t index) const {
    int64_t digest = run_;
    for (const OperatorId id : graph_.at(static_cast<OperatorId>(index)).prerequisites) {
      digest += std::abs(digests_[static_cast<size_t>(id)]) % 1000003;
    }
    return digest;
  }

  void CheckOperator(size_t i, std::span<const OperatorTiming> timings) {
    const Operator& checked = graph_.at(static_cast<OperatorId>(i));
    const bool needed = !checked.needed || needed_[i] != 0;
    expected_runs_[i] += needed ? 1 : 0;
    ASSERT_EQ(runs_[i], expected_runs_[i]) << "operator " << i;
    ASSERT_EQ(asked_[i], checked.needed ? run_ : 0) << "operator " << i;
    ASSERT_EQ(digests_[i], needed ? DigestOf(i) : -DigestOf(i)) << "operator " << i;
    const OperatorTiming& timing = timings[i];
    ASSERT_EQ(timing.skipped, !needed);
    ASSERT_LE(timing.ready, timing.begin);
    ASSERT_LE(timing.begin, timing.end);
    ASSERT_TRUE(needed || timing.ready == timing.end);
    for (const OperatorId id : checked.prerequisites) {
      ASSERT_LE(timings[static_cast<size_t>(id)].end, timing.ready) << "operator " << i << " after " << id;
    }
  }

  const Delays delays_;
  const uint64_t seed_;
  OperatorGraph graph_;
  int64_t run_ = 0;
  std::vector<int64_t> runs_, expected_runs_;       // (operators)
  std::vector<int64_t> asked_;                      // (operators)
  std::vector<char> needed_;                        // (operators)
  std::vector<int64_t> digests_;                    // (operators)
  std::vector<std::set<std::thread::id>> threads_;  // (devices), each touched by its device's thread only
};

class GraphExecutorOnDevices : public testing::TestWithParam<int32_t> {};

TEST_P(GraphExecutorOnDevices, RunsRandomGraphsInOrderAndOnTheRightThreads) {
  auto executor = *GraphExecutor::Create(GetParam());
  for (uint32_t seed = 0; seed < 40; ++seed) {
    const int64_t operators = 1 + (seed * 37) % 150;
    RecordingGraph recording(operators, GetParam(), seed % 4 == 0 ? 0 : 0.3, Delays::kNone, seed);
    for (uint32_t run = 0; run < 25; ++run) {
      recording.DrawWhatIsNeeded(seed * 1000 + run);
      executor->Run(recording.graph());
      ASSERT_NO_FATAL_FAILURE(recording.CheckRun(executor->timings()));
    }
  }
}

TEST_P(GraphExecutorOnDevices, RunsGraphsOfDifferentSizesInTurn) {
  auto executor = *GraphExecutor::Create(GetParam());
  std::vector<std::unique_ptr<RecordingGraph>> recordings;
  for (const int64_t operators : {1, 200, 3, 64, 65, 500}) {
    const auto devices = static_cast<int32_t>(1 + operators % GetParam());
    recordings.push_back(std::make_unique<RecordingGraph>(operators, devices, 0.2, Delays::kNone, 7));
  }
  for (uint32_t run = 0; run < 300; ++run) {
    RecordingGraph& recording = *recordings[run % recordings.size()];
    recording.DrawWhatIsNeeded(run);
    executor->Run(recording.graph());
    ASSERT_NO_FATAL_FAILURE(recording.CheckRun(executor->timings())) << "run " << run;
  }
  EXPECT_EQ(executor->stats().steps, 300u);
}

// THERMOCLINE_SOAK_RUNS asks for more runs than a test suite should take.
TEST_P(GraphExecutorOnDevices, SurvivesManyRunsWithRandomDelays) {
  const char* asked = std::getenv("THERMOCLINE_SOAK_RUNS");
  const int64_t runs = asked != nullptr ? std::atoll(asked) : 3000;
  auto executor = *GraphExecutor::Create(GetParam());
  RecordingGraph recording(24, GetParam(), 0.2, Delays::kRandom, 11);
  for (int64_t run = 0; run < runs; ++run) {
    recording.DrawWhatIsNeeded(static_cast<uint32_t>(run));
    executor->Run(recording.graph());
    ASSERT_NO_FATAL_FAILURE(recording.CheckRun(executor->timings())) << "run " << run;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, GraphExecutorOnDevices, testing::Values(1, 2, 3, 4),
                         [](const auto& devices) { return std::to_string(devices.param); });

Operator Work(int32_t device, std::vector<OperatorId> prerequisites, std::function<void()> work) {
  return {
      .name = "work", .device = device, .work = std::move(work), .prerequisites = std::move(prerequisites)};
}

Operator Skipped(int32_t device, std::vector<OperatorId> prerequisites) {
  Operator skipped = Work(device, std::move(prerequisites), [] { FAIL() << "a skipped operator ran"; });
  skipped.needed = [] { return false; };
  return skipped;
}

// Operators that wait for each other end only when both devices are at work at once.
TEST(GraphExecutor, DevicesWorkAtTheSameTime) {
  std::atomic<int> arrived = 0;
  const auto wait_for_both = [&] {
    ++arrived;
    while (arrived < 2) std::this_thread::yield();
  };
  OperatorGraph graph;
  graph.Add(Work(0, {}, [] {}));
  graph.Add(Work(1, {0}, wait_for_both));
  graph.Add(Work(0, {0}, wait_for_both));
  auto executor = *GraphExecutor::Create(2);
  executor->Run(graph);
  EXPECT_EQ(arrived, 2);
  EXPECT_GT(executor->stats().overlap_seconds, 0);
}

TEST(GraphExecutor, LongChainsOfSkippedOperatorsNeedNoDeepStack) {
  constexpr OperatorId kLength = 300000;
  for (const int32_t device : {0, 1}) {
    OperatorGraph graph;
    bool ran = false;
    graph.Add(Work(device, {}, [] {}));
    for (OperatorId i = 1; i < kLength; ++i) graph.Add(Skipped(device, {i - 1}));
    graph.Add(Work(1 - device, {kLength - 1}, [&ran] { ran = true; }));
    auto executor = *GraphExecutor::Create(2);
    executor->Run(graph);
    EXPECT_TRUE(ran);
    EXPECT_EQ(executor->stats().skipped_operators, static_cast<uint64_t>(kLength - 1));
  }
}

TEST(GraphExecutor, WideForksAndJoins) {
  constexpr OperatorId kWidth = 20000;
  OperatorGraph graph;
  std::vector<OperatorId> forks;
  std::atomic<int64_t> ran = 0;
  graph.Add(Work(0, {}, [] {}));
  for (OperatorId i = 0; i < kWidth; ++i) forks.push_back(graph.Add(Work(i % 4, {0}, [&ran] { ++ran; })));
  int64_t seen = 0;
  graph.Add(Work(2, forks, [&] { seen = ran; }));
  auto executor = *GraphExecutor::Create(4);
  executor->Run(graph);
  EXPECT_EQ(seen, kWidth);
}

TEST(GraphExecutor, GraphsOfWhichNothingRunsEnd) {
  auto executor = *GraphExecutor::Create(2);
  executor->Run(OperatorGraph());
  EXPECT_TRUE(executor->timings().empty());
  OperatorGraph skipped;
  for (const int32_t device : {0, 1, 1}) skipped.Add(Skipped(device, {}));
  executor->Run(skipped);
  EXPECT_EQ(executor->stats().steps, 2u);
  EXPECT_EQ(executor->stats().operators, 3u);
  EXPECT_EQ(executor->stats().skipped_operators, 3u);
}

// Each run ends on the caller with operators of its own just done: the next must not count on from there.
TEST(GraphExecutor, RunsThatEndOnTheCallerLeaveNothingBehind) {
  const std::unique_ptr<GraphExecutor> executor = *GraphExecutor::Create(2);
  int works = 0;
  OperatorGraph graph;
  const auto count = [&works] { ++works; };
  graph.Add({.name = "on the accelerator", .device = 1, .work = count});
  for (OperatorId id = 0; id < 6; ++id) graph.Add({.name = "chain", .work = count, .prerequisites = {id}});
  for (int run = 0; run < 100; ++run) executor->Run(graph);
  EXPECT_EQ(works, 700);
}

TEST(GraphExecutor, CountsHandOversAndForgetsThemWhenAsked) {
  OperatorGraph graph;
  graph.Add(Work(0, {}, [] {}));
  graph.Add(Work(1, {0}, [] {}));
  graph.Add(Work(1, {1}, [] {}));
  graph.Add(Work(0, {2}, [] {}));
  auto executor = *GraphExecutor::Create(2);
  for (int i = 0; i < 3; ++i) executor->Run(graph);
  EXPECT_EQ(executor->stats().hand_overs, 6u);
  EXPECT_GT(executor->stats().mean_hand_over_micros(), 0);
  EXPECT_FALSE(executor->timings()[0].handed_over);
  EXPECT_TRUE(executor->timings()[1].handed_over);
  EXPECT_FALSE(executor->timings()[2].handed_over);
  EXPECT_TRUE(executor->timings()[3].handed_over);
  executor->ResetStats();
  EXPECT_EQ(executor->stats().steps, 0u);
  EXPECT_TRUE(executor->stats().busy_seconds.empty());
}

// A graph may go as soon as Run returns, while executors still look for work.
TEST(GraphExecutor, KeepsNothingOfAGraphThatRan) {
  auto executor = *GraphExecutor::Create(3);
  for (int i = 0; i < 2000; ++i) {
    auto graph = std::make_unique<OperatorGraph>();
    auto written = std::make_unique<std::array<int, 3>>();
    for (int32_t device = 0; device < 3; ++device) {
      graph->Add(Work(device, {}, [&written, device] { (*written)[static_cast<size_t>(device)] = 1; }));
    }
    executor->Run(*graph);
    graph.reset();
    ASSERT_EQ((*written)[0] + (*written)[1] + (*written)[2], 3);
  }
}

TEST(GraphExecutor, RunsAgainAfterItsThreadsFellAsleepAndEndsAsleep) {
  OperatorGraph graph;
  int runs = 0;
  graph.Add(Work(0, {}, [] {}));
  graph.Add(Work(1, {0}, [&runs] {
    std::this_thread::sleep_for(kLongerThanAnIdleExecutorLooks);  // the caller sleeps too
    ++runs;
  }));
  auto executor = *GraphExecutor::Create(2);
  for (int i = 1; i <= 5; ++i) {
    std::this_thread::sleep_for(kLongerThanAnIdleExecutorLooks);
    executor->Run(graph);
    EXPECT_EQ(runs, i);
  }
  std::this_thread::sleep_for(kLongerThanAnIdleExecutorLooks);
}

TEST(GraphExecutor, EndsWithoutAnyRun) {
  EXPECT_TRUE(GraphExecutor::Create(4).ok());
  auto asleep = *GraphExecutor::Create(4);
  std::this_thread::sleep_for(kLongerThanAnIdleExecutorLooks);
}

TEST(GraphExecutor, RefusesAbsurdNumbersOfDevices) {
  EXPECT_EQ(GraphExecutor::Create(0).status(), InvalidArgument("executor: 0 devices, allowed are 1 to 64"));
  EXPECT_EQ(GraphExecutor::Create(65).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(GraphExecutorDeathTest, ChecksThatItHasTheGraphsDevices) {
  OperatorGraph graph;
  graph.Add(Work(1, {}, [] {}));
  auto executor = *GraphExecutor::Create(1);
  EXPECT_DEATH(executor->Run(graph), "n_devices");
}

}  // namespace
}  // namespace thermocline
