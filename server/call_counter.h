// CallCounter: how many completions a server works on, and waiting for the last one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>

namespace thermocline {

struct CompletionServerStats {
  int64_t active_calls = 0;      // completions that the protocol's library or the scheduler still works on
  uint64_t cancelled_calls = 0;  // completions whose end the client, its deadline or its connection caused
};

// Counts completions from their handler until nobody holds them any more. Shared with them, so that the last
// one may outlive the service.
class CallCounter {
 public:
  void Begin();
  void End();
  void CountCancelled();
  // Whether no call was active before the time was up.
  bool WaitIdle(std::chrono::steady_clock::time_point until);
  void WaitIdle();
  CompletionServerStats stats() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  CompletionServerStats stats_;  // guarded by mutex_
};

// One of them. As the first member of what it counts it ends last, when the other members are gone.
class CountedCall {
 public:
  explicit CountedCall(std::shared_ptr<CallCounter> counter) : counter_(std::move(counter)) {
    counter_->Begin();
  }
  ~CountedCall() { counter_->End(); }
  CountedCall(const CountedCall&) = delete;
  CountedCall& operator=(const CountedCall&) = delete;
  CallCounter& counter() const { return *counter_; }

 private:
  const std::shared_ptr<CallCounter> counter_;
};

}  // namespace thermocline
