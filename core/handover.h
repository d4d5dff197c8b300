// Handover: how one thread tells another, at low cost, that there is something new for it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace thermocline {

// A count of announcements that one thread at a time awaits. The awaiting thread looks at the count for a
// millisecond, yielding its CPU between looks, and then sleeps: waking up takes tens of microseconds, which
// a token would pay in every layer, and between requests a thread is idle for longer and costs nothing. The
// count wraps around; compare it only for equality.
class Handover {
 public:
  Handover() = default;
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;

  // What the caller wrote before is seen by whoever sees the count go up. Any thread.
  void Announce() {
    // The order of this and of AwaitChange's sleep is total, so that either the sleeper's last look sees the
    // new count or this sees that there is a sleeper.
    count_.fetch_add(1, std::memory_order_seq_cst);
    if (asleep_.load(std::memory_order_seq_cst)) count_.notify_one();
  }

  // Returns once the count is not `seen`, at once if it is not now.
  void AwaitChange(uint32_t seen);

 private:
  std::atomic<uint32_t> count_ = 0;
  std::atomic<bool> asleep_ = false;  // notify_one may be a system call; one that nobody needs is saved
};

}  // namespace thermocline
