// Batcher: the requests that run, step by step, over pages of keys and values.
// SPDX-License-Identifier: Apache-2.0
//
// A request runs while it has a slot and pages for its tokens. Each step is planned (PlanStep, and pages for
// what it writes), executed (StepExecutor) and completed (tokens sampled, pages published, ends noted). When
// no page is left the request that came last loses its own and starts again later; the first always goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "scheduler/page_pool.h"
#include "scheduler/sampler.h"
#include "scheduler/sequence.h"
#include "scheduler/step_executor.h"
#include "scheduler/step_plan.h"
#include "scheduler/step_times.h"

namespace thermocline {

// Of the requests so far.
struct BatchCounts {
  uint64_t prompt_tokens = 0;          // of requests whose first token was sampled
  uint64_t generated_tokens = 0;       // sampled tokens
  uint64_t prefix_queried_tokens = 0;  // of prompts looked for among the cached pages
  uint64_t prefix_hit_tokens = 0;      // and found there
  uint64_t preemptions = 0;
};

// Not thread-safe: the scheduler's thread's alone.
class Batcher {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // The runner must outlive it. At most max_running requests at once, and never more than a step takes.
  // `now` is asked for the time; tests have their own.
  Batcher(ModelRunner& runner, int64_t max_running, int64_t audit_every,
          std::function<TimePoint()> now = std::chrono::steady_clock::now);

  bool empty() const { return running_.empty(); }
  int64_t n_running() const { return static_cast<int64_t>(running_.size()); }

  // Takes the request in when there is a slot, and pages for what is known of it besides one for each that
  // runs. A batcher without requests takes any that is valid for context_length(). Calls no observer.
  bool TryAdmit(std::shared_ptr<Sequence> sequence);
  // Ends those that are cancelled or out of time.
  void EndInterrupted();
  // One step, if anything runs. Not OK, and nothing runs any more, when the runner is lost.
  absl::Status Step();

  // Since the last call, in their order. Their pages are given back already.
  void TakeEnded(std::vector<EndedSequence>& ended);
  // That lost their pages since the last call: the one that came first is the last.
  void TakePreempted(std::vector<std::shared_ptr<Sequence>>& preempted);

  // Of prompt and completion together: what the runner takes, and its pages hold.
  int64_t context_length() const;
  const BatchCounts& counts() const { return counts_; }
  const StepCounts& step_counts() const { return executor_.counts(); }
  const PagePool& pages() const { return pool_; }
  absl::Status CheckIntegrity() const;  // of the pages; for tests

 private:
  void PlanNext();
  // Has pages for n_tokens of the running request `index`, taken from the last where none is left. False when
  // it was the last itself.
  bool GetPages(size_t index, int64_t n_tokens);
  void PreemptLast();
  void TraceStep(TimePoint begin);
  void Complete();
  void Advance(const SliceWork& work);
  void PublishPages(Sequence& sequence);
  void End(std::shared_ptr<Sequence> sequence, absl::Status status);

  ModelRunner& runner_;
  const int64_t max_running_;
  const std::function<TimePoint()> now_;
  PagePool pool_;
  StepExecutor executor_;
  StepTimes times_;
  std::vector<std::shared_ptr<Sequence>> running_;  // as they were admitted
  std::vector<EndedSequence> ended_;
  std::vector<std::shared_ptr<Sequence>> preempted_;
  BatchCounts counts_;
  // Reused from step to step.
  std::vector<SequenceProgress> progress_;
  StepPlan plan_;
  std::vector<SliceWork> work_;
  SamplerScratch scratch_;
};

}  // namespace thermocline
