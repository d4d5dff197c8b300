// How many completions a server works on.
// SPDX-License-Identifier: Apache-2.0
#include "server/call_counter.h"

namespace thermocline {

void CallCounter::Begin() {
  const std::lock_guard lock(mutex_);
  ++stats_.active_calls;
}

void CallCounter::End() {
  const std::lock_guard lock(mutex_);
  if (--stats_.active_calls == 0) idle_.notify_all();
}

void CallCounter::CountCancelled() {
  const std::lock_guard lock(mutex_);
  ++stats_.cancelled_calls;
}

bool CallCounter::WaitIdle(std::chrono::steady_clock::time_point until) {
  std::unique_lock lock(mutex_);
  return idle_.wait_until(lock, until, [this] { return stats_.active_calls == 0; });
}

void CallCounter::WaitIdle() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return stats_.active_calls == 0; });
}

CompletionServerStats CallCounter::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

}  // namespace thermocline
