// Every entry that several threads push is taken once, and a push carries what was written before it.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/ready_queue.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace thermocline {
namespace {

TEST(ReadyQueue, KeepsTheOrderOfOnePusherRoundAndRound) {
  ReadyQueue queue;
  queue.Reserve(3);
  OperatorId next = 0;
  for (int round = 0; round < 1000; ++round) {
    for (OperatorId i = 0; i < 3; ++i) queue.Push(next + i);
    for (OperatorId i = 0; i < 3; ++i) ASSERT_EQ(queue.Take(), next + i);
    next += 3;
  }
}

TEST(ReadyQueue, GrowsBetweenUses) {
  ReadyQueue queue;
  for (int64_t entries = 1; entries < 100; entries += 7) {
    queue.Reserve(entries);
    for (int64_t i = 0; i < entries; ++i) queue.Push(static_cast<OperatorId>(i));
    for (int64_t i = 0; i < entries; ++i) ASSERT_EQ(queue.Take(), i);
  }
}

TEST(ReadyQueue, TakesEveryEntryOfManyPushersOnce) {
  constexpr OperatorId kPushers = 4, kEach = 5000;
  ReadyQueue queue;
  queue.Reserve(kPushers * kEach);
  std::vector<int> written(static_cast<size_t>(kPushers * kEach));
  std::vector<std::thread> pushers;
  for (OperatorId p = 0; p < kPushers; ++p) {
    pushers.emplace_back([&, p] {
      for (OperatorId i = 0; i < kEach; ++i) {
        const OperatorId entry = p * kEach + i;
        if (entry % 1237 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
        written[static_cast<size_t>(entry)] = 1;
        queue.Push(entry);
      }
    });
  }
  for (OperatorId i = 0; i < kPushers * kEach; ++i) {
    int& seen = written[static_cast<size_t>(queue.Take())];
    ASSERT_EQ(seen, 1);  // 0: not written before the push; 2: taken twice
    ++seen;
  }
  for (std::thread& pusher : pushers) pusher.join();
}

}  // namespace
}  // namespace thermocline
