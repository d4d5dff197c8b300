// Scheduler: admits requests into a bounded queue and decodes them on one thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <thread>

#include "core/status.h"
#include "model/tokenizer.h"
#include "scheduler/model_runner.h"
#include "scheduler/request.h"

namespace thermocline {

// Receives one request's results, on the scheduler's thread; must not block. OnFinish comes exactly once and
// last.
class CompletionObserver {
 public:
  virtual ~CompletionObserver() = default;
  virtual void OnDelta(CompletionDelta delta) = 0;
  // Cancelled, DeadlineExceeded, Unavailable (shutting down) or what the model runner failed with.
  virtual void OnFinish(absl::StatusOr<CompletionSummary> result) = 0;
};

using RequestHandle = uint64_t;

struct SchedulerOptions {
  int64_t max_queued_requests = 256;  // waiting, besides the one that runs
  // One decode step in so many, of those of qualities that leave neurons out, is computed exactly too and
  // compared (ModelRunner::ForwardAudited); 0: none. What requests get is the same.
  int64_t audit_every = 0;
};

struct SchedulerStats {
  int64_t running = 0;
  int64_t waiting = 0;
  uint64_t finished = 0;          // ended in any way after admission
  uint64_t generated_tokens = 0;  // sampled tokens of all requests
  StepSums decode_steps;          // of all requests; audits aside
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

  // Admits the request, or refuses it at once: InvalidArgument (ValidateRequest), ResourceExhausted (queue
  // full), Unavailable (draining). When refused the observer is never called.
  absl::StatusOr<RequestHandle> Submit(CompletionRequest request,
                                       std::shared_ptr<CompletionObserver> observer);

  // Ends the request with Cancelled within one step (a token, or a block of the prompt). Unknown or finished
  // handles are ignored.
  void Cancel(RequestHandle handle);

  // Refuses new requests from now on; waits until all admitted ones are finished or the time is up, then
  // cancels the rest with Unavailable. True when none had to be cancelled.
  bool Drain(std::chrono::milliseconds timeout);

  SchedulerStats stats() const;
  const SchedulerOptions& options() const { return options_; }
  RequestLimits limits() const { return {runner_.context_length(), runner_.n_vocab(), runner_.predicts()}; }

 private:
  struct Sequence;
  void Loop();
  absl::StatusOr<CompletionSummary> Complete(Sequence& sequence);
  // Computes a step, audited where it is its turn, and adds its figures to the scheduler's; of a decode step
  // to `decode_steps` too.
  absl::Status Step(const StepInput& step, std::span<float> logits, StepSums& decode_steps);
  bool AuditIsDue(const StepInput& step);

  ModelRunner& runner_;
  const Tokenizer& tokenizer_;
  const SchedulerOptions options_;
  int64_t auditable_steps_ = 0;  // the scheduler's thread's alone

  mutable std::mutex mutex_;
  std::condition_variable work_or_stop_;
  std::condition_variable idle_;
  std::deque<std::shared_ptr<Sequence>> waiting_;  // guarded by mutex_, as all below
  std::shared_ptr<Sequence> running_;
  RequestHandle next_handle_ = 1;
  bool busy_ = false;  // from taking a request until its observer has heard the end
  bool draining_ = false;
  bool stopping_ = false;
  uint64_t finished_ = 0;
  StepSums decode_steps_;
  AuditSums audits_;
  ExecutionStats execution_;  // the runner's, as of the last step
  std::atomic<uint64_t> generated_tokens_ = 0;
  std::thread thread_;
};

}  // namespace thermocline
