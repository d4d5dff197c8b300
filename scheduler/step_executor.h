// StepExecutor: has a planned step computed, audits apart, and keeps one request's failure from the others.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/model_runner.h"
#include "scheduler/sequence.h"
#include "scheduler/step_plan.h"

namespace thermocline {

// What a step does for one sequence.
struct SliceWork {
  Sequence* sequence = nullptr;
  int64_t n_tokens = 0;  // from sequence->n_computed on
  // Set by Execute(), which may change the order.
  bool audited = false;
  absl::Status status = absl::OkStatus();
  std::span<const float> logits = {};  // (n_vocab) of the last token; empty where nothing is sampled from it
};

// Of the steps so far.
struct StepCounts {
  uint64_t prefill_steps = 0;
  uint64_t decode_steps = 0;  // audits included
  int64_t last_requests = 0;  // in the last step
  int64_t last_tokens = 0;
  StepSums decode_sums;  // of all requests (CompletionSummary::decode_steps)
  AuditSums audits;
  ExecutionStats execution;
};

class StepExecutor {
 public:
  // The runner must outlive it. At most max_slices sequences a step; audit_every as in SchedulerOptions.
  StepExecutor(ModelRunner& runner, int64_t max_slices, int64_t audit_every);

  // Computes every slice and counts what decode steps read for its request. When a step of several fails,
  // each is computed alone, so that only those fail that cannot be computed. Logits stay until the next call.
  // Not OK when the runner is lost: then no slice counts.
  absl::Status Execute(StepPhase phase, std::span<SliceWork> work);

  const StepCounts& counts() const { return counts_; }

 private:
  // One call of the runner for work of places `first` and so many more.
  absl::Status RunStep(StepPhase phase, std::span<SliceWork> work, int64_t first, bool audit);
  absl::Status RunTogetherOrAlone(StepPhase phase, std::span<SliceWork> work);
  void Count(StepPhase phase, std::span<const SliceWork> work);
  bool AuditIsDue(const Sequence& sequence);

  ModelRunner& runner_;
  const int64_t n_vocab_;
  const int64_t audit_every_;
  int64_t auditable_tokens_ = 0;
  StepCounts counts_;
  // Reused from step to step.
  std::vector<TokenId> tokens_;
  std::vector<SequenceSlice> slices_;
  std::vector<float> logits_;  // (max_slices, n_vocab)
};

}  // namespace thermocline
