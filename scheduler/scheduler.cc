// The queue, the scheduler's thread, and messages to and from it.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"

#include <utility>

#include "scheduler/request_trace.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Scheduler::Scheduler(ModelRunner& runner, const Tokenizer& tokenizer, SchedulerOptions options)
    : runner_(runner),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      batcher_(runner, options_.max_running_requests, options_.audit_every),
      queue_({.max_requests = options_.max_queued_requests, .max_tokens = options_.max_queued_tokens}) {
  PublishStats();
  thread_ = std::thread([this] { Loop(); });
}

Scheduler::~Scheduler() {
  Drain(std::chrono::milliseconds(0));
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_or_stop_.notify_all();
  thread_.join();
}

absl::StatusOr<RequestHandle> Scheduler::Submit(CompletionRequest request,
                                                std::shared_ptr<CompletionObserver> observer) {
  std::vector<CompletionRequest> requests;
  requests.push_back(std::move(request));
  TC_ASSIGN_OR_RETURN(const std::vector<RequestHandle> handles,
                      SubmitAll(std::move(requests), {std::move(observer)}));
  return handles.front();
}

absl::StatusOr<std::vector<RequestHandle>> Scheduler::SubmitAll(
    std::vector<CompletionRequest> requests, std::vector<std::shared_ptr<CompletionObserver>> observers) {
  TC_CHECK(!requests.empty() && requests.size() == observers.size());
  const Clock::time_point now = Clock::now();
  const auto n_requests = static_cast<int64_t>(requests.size());
  int64_t n_tokens = 0;
  for (const CompletionRequest& request : requests) {
    TC_RETURN_IF_ERROR(ValidateRequest(request, limits()));
    n_tokens += static_cast<int64_t>(request.prompt.size());
  }
  std::vector<RequestHandle> handles;
  {
    std::lock_guard lock(mutex_);
    TC_RETURN_IF_ERROR(CheckAdmission(n_requests, n_tokens, now));
    while (handles.size() < requests.size()) handles.push_back(next_handle_++);
  }
  // Without the lock, since a long prompt takes its time.
  std::vector<std::shared_ptr<Sequence>> sequences;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].id.empty()) requests[i].id = fmt::format("request-{}", handles[i]);
    sequences.push_back(std::make_shared<Sequence>(handles[i], std::move(requests[i]),
                                                   std::move(observers[i]), tokenizer_, limits(), now));
  }
  std::lock_guard lock(mutex_);
  TC_RETURN_IF_ERROR(CheckAdmission(n_requests, n_tokens, now));
  for (std::shared_ptr<Sequence>& sequence : sequences) {
    unfinished_.emplace(sequence->handle, sequence);
    queue_.Push(std::move(sequence), now);
  }
  work_or_stop_.notify_one();
  return handles;
}

absl::Status Scheduler::CheckAdmission(int64_t n_requests, int64_t n_tokens, Clock::time_point now) const {
  if (!lost_.ok()) return Unavailable("the model runner is lost: {}", MessageOf(lost_));
  if (draining_) return Unavailable("the server is shutting down");
  return queue_.CheckRoom(n_requests, n_tokens, now);
}

void Scheduler::Cancel(RequestHandle handle) {
  std::shared_ptr<Sequence> withdrawn;
  {
    std::lock_guard lock(mutex_);
    const auto found = unfinished_.find(handle);
    if (found == unfinished_.end()) return;
    withdrawn = queue_.Remove(handle);
    if (!withdrawn) {
      found->second->interrupt = Sequence::Interrupt::kCancel;
      return;
    }
    unfinished_.erase(found);
    ++stats_.finished;
    ++unheard_;
  }
  withdrawn->observer->OnFinish(Cancelled("the request was cancelled"));
  std::lock_guard lock(mutex_);
  if (--unheard_ == 0 && unfinished_.empty()) idle_.notify_all();
}

bool Scheduler::Drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto idle = [this] { return unfinished_.empty() && unheard_ == 0; };
  if (idle_.wait_for(lock, timeout, idle)) return true;
  for (const auto& [handle, sequence] : unfinished_) sequence->interrupt = Sequence::Interrupt::kShutdown;
  idle_.wait(lock, idle);
  return false;
}

SchedulerStats Scheduler::stats() const {
  std::lock_guard lock(mutex_);
  SchedulerStats stats = stats_;
  stats.waiting = queue_.n_requests();
  stats.waiting_tokens = queue_.n_tokens();
  return stats;
}

absl::Status Scheduler::health() const {
  std::lock_guard lock(mutex_);
  return lost_;
}

void Scheduler::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    if (batcher_.empty()) work_or_stop_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (batcher_.empty() && queue_.empty()) return;
    lock.unlock();
    Turn();
    lock.lock();
  }
}

void Scheduler::Turn() {
  batcher_.EndInterrupted();
  AdmitWaiting();
  Settle();
  const absl::Status lost = batcher_.Step();
  if (!lost.ok()) Lose(lost);
  Settle();
  if (!lost.ok() && options_.on_runner_lost) options_.on_runner_lost(lost);
}

void Scheduler::AdmitWaiting() {
  const Clock::time_point now = Clock::now();
  std::lock_guard lock(mutex_);
  queue_.RemoveInterrupted(now, ended_);
  while (!queue_.empty() && batcher_.TryAdmit(queue_.front())) queue_.Pop(now);
  PublishStats();
}

void Scheduler::Lose(const absl::Status& status) {
  std::lock_guard lock(mutex_);
  lost_ = status;
  queue_.RemoveAll(Unavailable("the model runner is lost: {}", MessageOf(status)), ended_);
}

void Scheduler::Settle() {
  batcher_.TakeEnded(ended_);
  {
    // Room is free before the observers hear of it, so that a client that was answered finds it.
    std::lock_guard lock(mutex_);
    batcher_.TakePreempted(preempted_);
    for (std::shared_ptr<Sequence>& sequence : preempted_) queue_.PutBack(std::move(sequence), Clock::now());
    preempted_.clear();
    for (const EndedSequence& ended : ended_) unfinished_.erase(ended.sequence->handle);
    stats_.finished += ended_.size();
    unheard_ += static_cast<int64_t>(ended_.size());
    PublishStats();
  }
  if (ended_.empty()) return;
  for (EndedSequence& ended : ended_) Finish(ended);
  std::lock_guard lock(mutex_);
  unheard_ -= static_cast<int64_t>(ended_.size());
  ended_.clear();
  if (unheard_ == 0 && unfinished_.empty()) idle_.notify_all();
}

void Scheduler::Finish(EndedSequence& ended) {
  Sequence& sequence = *ended.sequence;
  if (ended.status.ok()) {
    if (sequence.request.trace) sequence.request.trace->End(Clock::now());
    sequence.observer->OnFinish(sequence.completion.Finish());
  } else {
    sequence.observer->OnFinish(std::move(ended.status));
  }
}

void Scheduler::PublishStats() {
  const BatchCounts& batch = batcher_.counts();
  const StepCounts& steps = batcher_.step_counts();
  const PagePool& pages = batcher_.pages();
  stats_.running = batcher_.n_running();
  stats_.prompt_tokens = batch.prompt_tokens;
  stats_.generated_tokens = batch.generated_tokens;
  stats_.pages = pages.n_pages();
  stats_.used_pages = pages.n_held();
  stats_.cached_pages = pages.n_cached();
  stats_.prefix_queried_tokens = batch.prefix_queried_tokens;
  stats_.prefix_hit_tokens = batch.prefix_hit_tokens;
  stats_.preemptions = batch.preemptions;
  stats_.prefill_steps = steps.prefill_steps;
  stats_.decode_step_count = steps.decode_steps;
  stats_.last_step_requests = steps.last_requests;
  stats_.last_step_tokens = steps.last_tokens;
  stats_.decode_steps = steps.decode_sums;
  stats_.audits = steps.audits;
  stats_.execution = steps.execution;
}

}  // namespace thermocline
