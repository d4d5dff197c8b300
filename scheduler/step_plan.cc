// PlanStep.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_plan.h"

#include <algorithm>

namespace thermocline {
namespace {

// Tokens that a sequence would compute in a step of its phase, if it were alone.
int64_t PendingTokens(const SequenceProgress& progress) {
  switch (PhaseOf(progress)) {
    case StepPhase::kPrefill:
      return progress.n_prompt - progress.n_computed;
    case StepPhase::kReplay:
      return progress.n_tokens - 1 - progress.n_computed;
    case StepPhase::kDecode:
      return 1;
  }
  TC_CHECK(false);
}

}  // namespace

StepPhase PhaseOf(const SequenceProgress& progress) {
  if (progress.n_computed < progress.n_prompt) return StepPhase::kPrefill;
  return progress.n_computed < progress.n_tokens - 1 ? StepPhase::kReplay : StepPhase::kDecode;
}

void PlanStep(std::span<const SequenceProgress> sequences, const StepLimits& limits, StepPlan& plan) {
  const auto decodes = [](const SequenceProgress& progress) {
    return PhaseOf(progress) == StepPhase::kDecode;
  };
  const bool others_wait = std::ranges::any_of(sequences, decodes);
  const auto first_behind = std::ranges::find_if_not(sequences, decodes);
  const bool decode_now =
      others_wait && (first_behind == sequences.end() || plan.phase != StepPhase::kDecode);

  plan.slices.clear();
  if (sequences.empty()) return;
  plan.phase = decode_now ? StepPhase::kDecode : PhaseOf(*first_behind);
  int64_t room = limits.max_tokens;
  if (!decode_now && others_wait) {
    const int64_t chunk = plan.phase == StepPhase::kPrefill ? limits.prefill_chunk : limits.replay_chunk;
    room = std::min(room, chunk);
  }
  for (size_t i = 0; i < sequences.size() && room > 0; ++i) {
    if (PhaseOf(sequences[i]) != plan.phase) continue;
    const int64_t count = std::min(room, PendingTokens(sequences[i]));
    plan.slices.push_back({.sequence = i, .n_tokens = count});
    room -= count;
  }
}

}  // namespace thermocline
