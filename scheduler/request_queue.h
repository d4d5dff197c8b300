// RequestQueue: requests that wait for their place, in the order of arrival, and how fast it moves.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "core/status.h"
#include "scheduler/sequence.h"

namespace thermocline {

struct QueueLimits {
  int64_t max_requests = 0;
  int64_t max_tokens = 0;  // of all prompts together
};

// Not thread-safe.
class RequestQueue {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit RequestQueue(const QueueLimits& limits) : limits_(limits) {}

  bool empty() const { return waiting_.empty(); }
  int64_t n_requests() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t n_tokens() const { return n_tokens_; }  // to be computed before the requests go on

  // Whether so many requests, whose prompts have so many tokens together, find room; an empty queue takes
  // any length. ResourceExhausted with a retry delay (RetryDelayOf): about when what waits now will
  // have its place. InvalidArgument where the queue never has room for so many requests.
  absl::Status CheckRoom(int64_t n_requests, int64_t n_tokens, TimePoint now) const;
  void Push(std::shared_ptr<Sequence> sequence, TimePoint now);

  const std::shared_ptr<Sequence>& front() const { return waiting_.front(); }
  // The front request got its place.
  std::shared_ptr<Sequence> Pop(TimePoint now);
  // Gives a request that lost its place the next one.
  void PutBack(std::shared_ptr<Sequence> sequence, TimePoint now);

  // nullptr when it is not here.
  std::shared_ptr<Sequence> Remove(RequestHandle handle);
  // Ends those that are cancelled or out of time.
  void RemoveInterrupted(TimePoint now, std::vector<EndedSequence>& ended);
  // Ends all.
  void RemoveAll(const absl::Status& reason, std::vector<EndedSequence>& ended);

 private:
  std::chrono::milliseconds RetryDelay(TimePoint now) const;
  void Uncount(const Sequence& sequence) { n_tokens_ -= static_cast<int64_t>(sequence.tokens.size()); }

  const QueueLimits limits_;
  std::deque<std::shared_ptr<Sequence>> waiting_;
  int64_t n_tokens_ = 0;
  // The pace: requests that got their place, and the time in which somebody waited for one; both fade.
  double moved_ = 0;
  double moved_seconds_ = 0;
  TimePoint last_move_;  // or since when somebody waits
};

}  // namespace thermocline
