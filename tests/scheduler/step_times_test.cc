// The size of chunks, for made-up machines.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_times.h"

#include <gtest/gtest.h>

#include <cmath>

#include "scheduler/kv_pages.h"

namespace thermocline {
namespace {

TEST(StepTimes, APageWhileNothingIsKnown) {
  StepTimes times;
  EXPECT_EQ(times.ChunkTokens(StepPhase::kPrefill), kKvPageTokens);
  times.Record(StepPhase::kPrefill, 100, 1.0);
  EXPECT_EQ(times.ChunkTokens(StepPhase::kPrefill), kKvPageTokens);
  times.Record(StepPhase::kDecode, 1, 0.1);
  EXPECT_EQ(times.ChunkTokens(StepPhase::kReplay), kKvPageTokens);
  EXPECT_EQ(times.ChunkTokens(StepPhase::kPrefill), 12);  // 1.25 * 0.1 s at 10 ms a token
}

TEST(StepTimes, ClocksThatStandStillAreNoMeasure) {
  StepTimes times;
  times.Record(StepPhase::kPrefill, 100, 0);
  times.Record(StepPhase::kDecode, 1, 0);
  EXPECT_EQ(times.ChunkTokens(StepPhase::kPrefill), kKvPageTokens);
}

// A step takes `fixed` and `per_token` for each token. From whatever start, chunks come to 1.25 decode steps,
// and one that grows never passes that by more than the token it is rounded up by.
TEST(StepTimes, ChunksComeToAboutADecodeStep) {
  struct Machine {
    double fixed, per_token, decode;
  };
  for (const Machine machine :
       {Machine{0, 1, 30}, Machine{20, 1, 21}, Machine{20, 0.01, 20.01}, Machine{5, 7, 6}}) {
    for (const int64_t start : {1, 3, 128}) {
      StepTimes times;
      times.Record(StepPhase::kDecode, 1, machine.decode);
      const auto seconds = [&](int64_t n) {
        return machine.fixed + machine.per_token * static_cast<double>(n);
      };
      const double wanted = 1.25 * machine.decode;
      int64_t chunk = start;
      for (int i = 0; i < 1000; ++i) {
        times.Record(StepPhase::kPrefill, chunk, seconds(chunk));
        const int64_t next = times.ChunkTokens(StepPhase::kPrefill);
        EXPECT_GE(next, 1);
        if (next > chunk) {
          EXPECT_LE(seconds(next - 1), wanted);
        }
        chunk = next;
      }
      // Within a token of the time wanted, where one token does not take longer already.
      EXPECT_LE(seconds(chunk - 1), std::max(wanted, seconds(0)));
      EXPECT_GE(seconds(chunk + 1), std::min(wanted, seconds(2)));
    }
  }
}

TEST(StepTimes, OneSlowDecodeStepHardlyMovesTheMean) {
  for (const double slow : {2.0, 1000.0}) {
    StepTimes times;
    times.Record(StepPhase::kPrefill, 100, 1.0);
    times.Record(StepPhase::kDecode, 1, 1.0);
    times.Record(StepPhase::kDecode, 1, slow);
    EXPECT_EQ(times.ChunkTokens(StepPhase::kPrefill), 157);  // 1.25 times 1.25 s at 10 ms a token, rounded up
  }
}

TEST(StepTimes, StepsThatStayLongMoveTheMean) {
  StepTimes times;
  times.Record(StepPhase::kPrefill, 100, 1.0);
  for (const double seconds : {1.0, 20.0}) {
    for (int i = 0; i < 60; ++i) times.Record(StepPhase::kDecode, 1, seconds);
    EXPECT_NEAR(static_cast<double>(times.ChunkTokens(StepPhase::kPrefill)), 125 * seconds, 1);
  }
}

}  // namespace
}  // namespace thermocline
