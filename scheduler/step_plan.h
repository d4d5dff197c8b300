// PlanStep: which tokens of which sequences the next step computes.
// SPDX-License-Identifier: Apache-2.0
//
// A sequence is in one of three phases. Its prompt is computed in prefill steps, which are dense. Then every
// decode step computes its last token, of which the next is sampled. One that lost its pages computes its
// prompt again, and then, in the replay phase, the tokens it had sampled: in decode steps as at first, so
// that its keys and values are what they were.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/model_runner.h"

namespace thermocline {

enum class StepPhase { kPrefill, kReplay, kDecode };

struct SequenceProgress {
  int64_t n_prompt = 0;
  int64_t n_tokens = 0;    // known: the prompt and what was sampled
  int64_t n_computed = 0;  // below n_tokens
};

StepPhase PhaseOf(const SequenceProgress& progress);
constexpr StepKind KindOf(StepPhase phase) {
  return phase == StepPhase::kPrefill ? StepKind::kPrefill : StepKind::kDecode;
}

// The next n_tokens of a sequence, by its place in the list that was planned for.
struct PlannedSlice {
  size_t sequence = 0;
  int64_t n_tokens = 0;

  bool operator==(const PlannedSlice&) const = default;
};

struct StepPlan {
  StepPhase phase = StepPhase::kDecode;
  std::vector<PlannedSlice> slices;  // in the order of the sequences
};

struct StepLimits {
  int64_t max_tokens = 0;  // of any step; at least the number of sequences
  // Of a step that others wait for to decode.
  int64_t prefill_chunk = 0;
  int64_t replay_chunk = 0;
};

// All sequences that decode, or the first sequences, in their order, that have a prompt to compute or tokens
// to replay: chunks of those and decode steps take turns. plan.phase is that of the step before this one when
// called; the list of slices is reused. Empty only when there is no sequence.
void PlanStep(std::span<const SequenceProgress> sequences, const StepLimits& limits, StepPlan& plan);

}  // namespace thermocline
