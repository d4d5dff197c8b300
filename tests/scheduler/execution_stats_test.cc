// Sums over hand-made timings.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/execution_stats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline {
namespace {

using std::chrono::milliseconds;
using ::testing::DoubleNear;
using ::testing::ElementsAre;

// Of a double of some milliseconds.
constexpr double kRounding = 1e-12;

struct Ran {
  int32_t device;
  int ready, begin, end;  // milliseconds
  bool handed_over = false;
  bool skipped = false;
  int32_t layer = -1;
};

// Adds one step in which these ran.
void AddStep(const std::vector<Ran>& step, ExecutionStats& stats) {
  OperatorGraph graph;
  std::vector<OperatorTiming> timings;
  const auto at = [](int ms) { return std::chrono::steady_clock::time_point(milliseconds(1000 + ms)); };
  for (const Ran& ran : step) {
    graph.Add({.name = "", .layer = ran.layer, .device = ran.device, .work = [] {}});
    timings.push_back({at(ran.ready), at(ran.begin), at(ran.end), ran.skipped, ran.handed_over});
  }
  ExecutionSummer().Add(graph, timings, stats);
}

TEST(ExecutionStats, AreZeroAtFirst) {
  const ExecutionStats stats;
  EXPECT_EQ(stats.overlap_ratio(), 0);
  EXPECT_EQ(stats.mean_hand_over_micros(), 0);
}

TEST(ExecutionStats, CountHandOversAndSkippedOperators) {
  ExecutionStats stats;
  AddStep({{.device = 0, .ready = 0, .begin = 0, .end = 4},
           {.device = 1, .ready = 4, .begin = 5, .end = 9, .handed_over = true},
           {.device = 1, .ready = 5, .begin = 9, .end = 10},
           {.device = 0, .ready = 10, .begin = 13, .end = 20, .handed_over = true},
           {.device = 1, .ready = 20, .begin = 20, .end = 20, .skipped = true}},
          stats);
  EXPECT_EQ(stats.steps, 1u);
  EXPECT_EQ(stats.operators, 5u);
  EXPECT_EQ(stats.skipped_operators, 1u);
  EXPECT_EQ(stats.hand_overs, 2u);
  EXPECT_NEAR(stats.hand_over_seconds, 0.004, kRounding);
  EXPECT_NEAR(stats.mean_hand_over_micros(), 2000, 1e6 * kRounding);
  EXPECT_THAT(stats.busy_seconds, ElementsAre(DoubleNear(0.011, kRounding), DoubleNear(0.005, kRounding)));
  EXPECT_EQ(stats.overlap_seconds, 0);
  EXPECT_EQ(stats.overlap_ratio(), 0);
}

TEST(ExecutionStats, TimesAddUpByDeviceAndLayer) {
  ExecutionStats stats;
  const std::vector<Ran> step = {
      {.device = 0, .ready = 0, .begin = 0, .end = 4},  // of no layer
      {.device = 0, .ready = 4, .begin = 4, .end = 6, .layer = 1},
      {.device = 0, .ready = 6, .begin = 6, .end = 9, .layer = 1},
      {.device = 1, .ready = 4, .begin = 5, .end = 10, .layer = 0},
      {.device = 1, .ready = 4, .begin = 4, .end = 4, .skipped = true, .layer = 2}};
  AddStep(step, stats);
  AddStep(step, stats);
  EXPECT_THAT(stats.layer_seconds, ElementsAre(ElementsAre(0.0, DoubleNear(0.010, kRounding)),
                                               ElementsAre(DoubleNear(0.010, kRounding))));
}

TEST(ExecutionStats, WithoutAcceleratorsNothingOverlaps) {
  ExecutionStats stats;
  AddStep({{.device = 0, .ready = 0, .begin = 0, .end = 4}, {.device = 0, .ready = 4, .begin = 4, .end = 9}},
          stats);
  EXPECT_THAT(stats.busy_seconds, ElementsAre(DoubleNear(0.009, kRounding)));
  EXPECT_EQ(stats.overlap_ratio(), 0);
}

TEST(ExecutionStats, OverlapIsWhereIntervalsIntersect) {
  ExecutionStats stats;
  // CPU 0-10, 20-30, 40-50; accelerator 5-25, 28-29, 60-70: 5-10, 20-25 and 28-29 in common.
  AddStep({{.device = 0, .ready = 0, .begin = 0, .end = 10},
           {.device = 1, .ready = 5, .begin = 5, .end = 25},
           {.device = 0, .ready = 20, .begin = 20, .end = 30},
           {.device = 1, .ready = 28, .begin = 28, .end = 29},
           {.device = 0, .ready = 40, .begin = 40, .end = 50},
           {.device = 1, .ready = 60, .begin = 60, .end = 70}},
          stats);
  EXPECT_NEAR(stats.overlap_seconds, 0.011, kRounding);
  EXPECT_NEAR(stats.accelerators_seconds, 0.031, kRounding);
  EXPECT_NEAR(stats.overlap_ratio(), 11.0 / 30, 1e-9);  // the CPU is the less busy side
}

TEST(ExecutionStats, OperatorsNeedNotHaveRunInTheOrderOfTheirIds) {
  ExecutionStats stats;
  AddStep({{.device = 1, .ready = 0, .begin = 50, .end = 60},
           {.device = 0, .ready = 0, .begin = 30, .end = 55},
           {.device = 1, .ready = 0, .begin = 10, .end = 20},
           {.device = 0, .ready = 0, .begin = 0, .end = 12}},
          stats);
  EXPECT_NEAR(stats.overlap_seconds, 0.007, kRounding);  // 10-12 and 50-55
}

TEST(ExecutionStats, AcceleratorsAreOneSideAndCountOnceWhereTheyOverlap) {
  ExecutionStats stats;
  AddStep({{.device = 0, .ready = 0, .begin = 0, .end = 100},
           {.device = 1, .ready = 10, .begin = 10, .end = 30},
           {.device = 2, .ready = 20, .begin = 20, .end = 40},
           {.device = 1, .ready = 60, .begin = 60, .end = 70},
           {.device = 2, .ready = 70, .begin = 70, .end = 80}},
          stats);
  EXPECT_NEAR(stats.accelerators_seconds, 0.050, kRounding);
  EXPECT_NEAR(stats.overlap_seconds, 0.050, kRounding);
  EXPECT_NEAR(stats.overlap_ratio(), 1, 1e-9);
}

TEST(ExecutionStats, StepsAddUp) {
  ExecutionStats stats;
  AddStep({{.device = 0, .ready = 0, .begin = 0, .end = 10}}, stats);
  AddStep({{.device = 0, .ready = 0, .begin = 0, .end = 10},
           {.device = 2, .ready = 0, .begin = 5, .end = 9, .handed_over = true}},
          stats);
  EXPECT_EQ(stats.steps, 2u);
  EXPECT_EQ(stats.operators, 3u);
  EXPECT_THAT(stats.busy_seconds,
              ElementsAre(DoubleNear(0.020, kRounding), 0.0, DoubleNear(0.004, kRounding)));
  EXPECT_NEAR(stats.overlap_seconds, 0.004, kRounding);
}

}  // namespace
}  // namespace thermocline
