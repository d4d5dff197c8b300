// Awaiting a hand-over: looks first, then sleeps.
// SPDX-License-Identifier: Apache-2.0
#include "core/handover.h"

#include <chrono>
#include <thread>

namespace thermocline {
namespace {
constexpr std::chrono::milliseconds kLookFor{1};
}  // namespace

void Handover::AwaitChange(uint32_t seen) {
  using Clock = std::chrono::steady_clock;
  if (count_.load(std::memory_order_acquire) != seen) return;
  // Yielding between looks lets the other side run where the system has put both on one CPU; elsewhere it
  // costs a fraction of a microsecond.
  const Clock::time_point give_up = Clock::now() + kLookFor;
  do {
    std::this_thread::yield();
    if (count_.load(std::memory_order_acquire) != seen) return;
  } while (Clock::now() < give_up);
  asleep_.store(true, std::memory_order_seq_cst);
  count_.wait(seen, std::memory_order_seq_cst);
  asleep_.store(false, std::memory_order_relaxed);
}

}  // namespace thermocline
