// Every announcement arrives, whether the other thread is looking or asleep.
// SPDX-License-Identifier: Apache-2.0
#include "core/handover.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace thermocline {
namespace {

constexpr std::chrono::milliseconds kLongerThanItLooks{2};

TEST(Handover, ReturnsAtOnceWhenTheCountHasChangedBefore) {
  Handover handover;
  handover.Announce();
  handover.AwaitChange(0);
  handover.Announce();
  handover.AwaitChange(0);
  handover.AwaitChange(1);
}

// A lost announcement would leave both sides waiting; unordered memory would show in `value`.
TEST(Handover, CarriesWhatWasWrittenBeforeBackAndForth) {
  constexpr uint32_t kTurns = 20000;
  Handover there, back;
  uint32_t value = 0;
  std::thread other([&] {
    for (uint32_t turn = 0; turn < kTurns; ++turn) {
      there.AwaitChange(turn);
      if (turn % 4096 == 1) std::this_thread::sleep_for(kLongerThanItLooks);
      ++value;
      back.Announce();
    }
  });
  for (uint32_t turn = 0; turn < kTurns; ++turn) {
    if (turn % 4096 == 0) std::this_thread::sleep_for(kLongerThanItLooks);
    ++value;
    there.Announce();
    back.AwaitChange(turn);
    ASSERT_EQ(value, 2 * (turn + 1));
  }
  other.join();
}

TEST(Handover, WakesASleeper) {
  Handover handover;
  std::atomic<int> woken = 0;
  std::thread sleeper([&] {
    for (uint32_t seen = 0; seen < 5; ++seen) {
      handover.AwaitChange(seen);
      woken = static_cast<int>(seen) + 1;
    }
  });
  for (int n = 1; n <= 5; ++n) {
    std::this_thread::sleep_for(kLongerThanItLooks);
    handover.Announce();
    while (woken < n) std::this_thread::yield();
    EXPECT_EQ(woken, n);
  }
  sleeper.join();
}

}  // namespace
}  // namespace thermocline
