// Scheduler: admits requests into a bounded queue and computes them together on one thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_map.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"
#include "scheduler/batcher.h"
#include "scheduler/completion_observer.h"
#include "scheduler/model_runner.h"
#include "scheduler/request.h"
#include "scheduler/request_queue.h"

namespace thermocline {

struct SchedulerOptions {
  int64_t max_queued_requests = 256;    // waiting, besides those that run
  int64_t max_queued_tokens = 1 << 20;  // of their prompts; a queue that is empty takes any prompt
  int64_t max_running_requests = 64;    // at least 1; no more than a step of the runner takes tokens
  // One decoded token in so many, of those of qualities that leave neurons out, is computed exactly too and
  // compared (ModelRunner::ForwardBatchAudited); 0: none. What requests get is the same.
  int64_t audit_every = 0;
  // Called once, on the scheduler's thread, when the runner's device is lost and every request has heard of
  // it. Must not destroy the scheduler.
  std::function<void(const absl::Status&)> on_runner_lost = nullptr;
};

struct SchedulerStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t waiting_tokens = 0;          // of the prompts that wait, and of what lost its pages
  uint64_t finished = 0;               // ended in any way after admission
  uint64_t prompt_tokens = 0;          // of requests whose first token was sampled
  uint64_t generated_tokens = 0;       // sampled tokens of all requests
  int64_t pages = 0;                   // of keys and values, kKvPageTokens each
  int64_t used_pages = 0;              // held by requests that run
  int64_t cached_pages = 0;            // held by none, kept for prompts that begin alike
  uint64_t prefix_queried_tokens = 0;  // of prompts looked for among the pages
  uint64_t prefix_hit_tokens = 0;      // and found there
  uint64_t preemptions = 0;            // requests that lost their pages to earlier ones
  uint64_t prefill_steps = 0;
  uint64_t decode_step_count = 0;
  int64_t last_step_requests = 0;
  int64_t last_step_tokens = 0;
  StepSums decode_steps;  // of all requests (CompletionSummary::decode_steps)
  AuditSums audits;
  ExecutionStats execution;  // of every step, prefill and audits too
};

class Scheduler {
 public:
  // Both must outlive the scheduler.
  Scheduler(ModelRunner& runner, const Tokenizer& tokenizer, SchedulerOptions options = {});
  // Cancels what runs and waits, and joins the thread.
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Admits the request, or refuses it at once: InvalidArgument (ValidateRequest), ResourceExhausted with a
  // retry delay (RetryDelayOf; the queue is full), Unavailable (draining, or the runner is lost). When
  // refused the observer is never called.
  absl::StatusOr<RequestHandle> Submit(CompletionRequest request,
                                       std::shared_ptr<CompletionObserver> observer);
  // The same for several at once, at least one, each with its observer: all are admitted or none.
  // InvalidArgument, too, for more than the queue ever takes.
  absl::StatusOr<std::vector<RequestHandle>> SubmitAll(
      std::vector<CompletionRequest> requests, std::vector<std::shared_ptr<CompletionObserver>> observers);

  // Ends the request with Cancelled: at once while it waits, else after the step that is being computed.
  // Unknown or finished handles are ignored.
  void Cancel(RequestHandle handle);

  // Refuses new requests from now on; waits until all admitted ones are finished or the time is up, then
  // cancels the rest with Unavailable. True when none had to be cancelled.
  bool Drain(std::chrono::milliseconds timeout);

  SchedulerStats stats() const;
  // Not OK, for good, once the runner is lost.
  absl::Status health() const;
  const SchedulerOptions& options() const { return options_; }
  RequestLimits limits() const { return {batcher_.context_length(), runner_.n_vocab(), runner_.predicts()}; }

 private:
  // Whether so many requests, of so many tokens together, are let in. The caller holds mutex_.
  absl::Status CheckAdmission(int64_t n_requests, int64_t n_tokens,
                              std::chrono::steady_clock::time_point now) const;
  void Loop();
  // Ends and admits, one step, ends again.
  void Turn();
  void AdmitWaiting();
  // Puts back what lost its pages, publishes the figures, and lets the observers of what ended hear of it.
  void Settle();
  void PublishStats();  // the caller holds mutex_
  void Lose(const absl::Status& status);
  static void Finish(EndedSequence& ended);

  ModelRunner& runner_;
  const Tokenizer& tokenizer_;
  const SchedulerOptions options_;
  // The scheduler's thread's alone.
  Batcher batcher_;
  std::vector<EndedSequence> ended_;
  std::vector<std::shared_ptr<Sequence>> preempted_;

  mutable std::mutex mutex_;
  std::condition_variable work_or_stop_;
  std::condition_variable idle_;
  RequestQueue queue_;  // guarded by mutex_, as all below
  absl::flat_hash_map<RequestHandle, std::shared_ptr<Sequence>> unfinished_;  // waiting and running
  int64_t unheard_ = 0;  // finished, whose observers are yet to be called or being called
  RequestHandle next_handle_ = 1;
  bool draining_ = false;
  bool stopping_ = false;
  absl::Status lost_ = absl::OkStatus();
  SchedulerStats stats_;  // as of the last step, but for what waits
  std::thread thread_;
};

}  // namespace thermocline
