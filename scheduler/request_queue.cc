// RequestQueue.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/request_queue.h"

#include <algorithm>
#include <utility>

namespace thermocline {
namespace {

// What counts one request ago still counts by so much now.
constexpr double kFading = 0.95;
constexpr std::chrono::milliseconds kLeastDelay{100};
constexpr std::chrono::milliseconds kMostDelay{60'000};

double SecondsBetween(RequestQueue::TimePoint begin, RequestQueue::TimePoint end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

absl::Status RequestQueue::CheckRoom(int64_t n_requests, int64_t n_tokens, TimePoint now) const {
  if (n_requests > std::max<int64_t>(1, limits_.max_requests)) {
    return FieldError("n", fmt::format("asks for {} completions together, the queue takes at most {}",
                                       n_requests, limits_.max_requests));
  }
  if (n_requests > limits_.max_requests - this->n_requests()) {
    return WithRetryDelay(
        ResourceExhausted("the queue is full: {} requests wait, {} more exceed the limit of {}",
                          this->n_requests(), n_requests, limits_.max_requests),
        RetryDelay(now));
  }
  if (!empty() && n_tokens_ + n_tokens > limits_.max_tokens) {
    return WithRetryDelay(
        ResourceExhausted("the queue is full: requests of {} tokens wait, {} more exceed the limit of {}",
                          n_tokens_, n_tokens, limits_.max_tokens),
        RetryDelay(now));
  }
  return absl::OkStatus();
}

std::chrono::milliseconds RequestQueue::RetryDelay(TimePoint now) const {
  // A queue that has not moved for longer than usual is that slow now.
  const double waited = SecondsBetween(last_move_, now);
  const double per_request = (moved_seconds_ + waited) / (moved_ + 1);
  const std::chrono::duration<double, std::milli> delay(1e3 * per_request *
                                                        static_cast<double>(n_requests()));
  return std::clamp(std::chrono::ceil<std::chrono::milliseconds>(delay), kLeastDelay, kMostDelay);
}

void RequestQueue::Push(std::shared_ptr<Sequence> sequence, TimePoint now) {
  if (empty()) last_move_ = now;
  n_tokens_ += static_cast<int64_t>(sequence->tokens.size());
  waiting_.push_back(std::move(sequence));
}

std::shared_ptr<Sequence> RequestQueue::Pop(TimePoint now) {
  std::shared_ptr<Sequence> sequence = std::move(waiting_.front());
  waiting_.pop_front();
  Uncount(*sequence);
  moved_ = kFading * moved_ + 1;
  moved_seconds_ = kFading * moved_seconds_ + SecondsBetween(last_move_, now);
  last_move_ = now;
  return sequence;
}

void RequestQueue::PutBack(std::shared_ptr<Sequence> sequence, TimePoint now) {
  if (empty()) last_move_ = now;
  n_tokens_ += static_cast<int64_t>(sequence->tokens.size());
  waiting_.push_front(std::move(sequence));
}

std::shared_ptr<Sequence> RequestQueue::Remove(RequestHandle handle) {
  const auto found =
      std::ranges::find(waiting_, handle, [](const auto& sequence) { return sequence->handle; });
  if (found == waiting_.end()) return nullptr;
  std::shared_ptr<Sequence> removed = std::move(*found);
  waiting_.erase(found);
  Uncount(*removed);
  return removed;
}

void RequestQueue::RemoveInterrupted(TimePoint now, std::vector<EndedSequence>& ended) {
  std::erase_if(waiting_, [&](const std::shared_ptr<Sequence>& sequence) {
    absl::Status status = sequence->CheckInterrupt(now);
    if (status.ok() && !sequence->completion.TimeIsUp(now)) return false;
    Uncount(*sequence);
    ended.push_back({sequence, std::move(status)});
    return true;
  });
}

void RequestQueue::RemoveAll(const absl::Status& reason, std::vector<EndedSequence>& ended) {
  for (std::shared_ptr<Sequence>& sequence : waiting_) ended.push_back({std::move(sequence), reason});
  waiting_.clear();
  n_tokens_ = 0;
}

}  // namespace thermocline
