// Plans of steps: phases, chunks, turns.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thermocline {
namespace {

using ::testing::ElementsAre;

constexpr StepLimits kLimits{.max_tokens = 16, .prefill_chunk = 5, .replay_chunk = 3};

constexpr SequenceProgress Prompt(int64_t n_prompt, int64_t n_computed = 0) {
  return {.n_prompt = n_prompt, .n_tokens = n_prompt, .n_computed = n_computed};
}
constexpr SequenceProgress Decoding{.n_prompt = 4, .n_tokens = 7, .n_computed = 6};

StepPlan PlanAfter(StepPhase before, const std::vector<SequenceProgress>& sequences) {
  StepPlan plan{.phase = before};
  PlanStep(sequences, kLimits, plan);
  return plan;
}

TEST(StepPlan, PhasesFollowFromWhatIsComputed) {
  EXPECT_EQ(PhaseOf(Prompt(1)), StepPhase::kPrefill);
  EXPECT_EQ(PhaseOf(Prompt(5, 4)), StepPhase::kPrefill);
  EXPECT_EQ(PhaseOf(Decoding), StepPhase::kDecode);
  EXPECT_EQ(PhaseOf({.n_prompt = 4, .n_tokens = 5, .n_computed = 4}), StepPhase::kDecode);
  EXPECT_EQ(PhaseOf({.n_prompt = 4, .n_tokens = 7, .n_computed = 0}), StepPhase::kPrefill);
  EXPECT_EQ(PhaseOf({.n_prompt = 4, .n_tokens = 7, .n_computed = 4}), StepPhase::kReplay);
  EXPECT_EQ(PhaseOf({.n_prompt = 4, .n_tokens = 7, .n_computed = 5}), StepPhase::kReplay);
}

TEST(StepPlan, NothingToDoIsAnEmptyPlan) {
  EXPECT_THAT(PlanAfter(StepPhase::kDecode, {}).slices, ElementsAre());
}

TEST(StepPlan, WhenNobodyDecodesPromptsFillWholeSteps) {
  const StepPlan plan = PlanAfter(StepPhase::kPrefill, {Prompt(6), Prompt(20, 2), Prompt(3)});
  EXPECT_EQ(plan.phase, StepPhase::kPrefill);
  EXPECT_THAT(plan.slices, ElementsAre(PlannedSlice{0, 6}, PlannedSlice{1, 10}));
}

TEST(StepPlan, AllThatDecodeShareAStep) {
  const StepPlan plan = PlanAfter(StepPhase::kDecode, {Decoding, Decoding, Decoding});
  EXPECT_EQ(plan.phase, StepPhase::kDecode);
  EXPECT_THAT(plan.slices, ElementsAre(PlannedSlice{0, 1}, PlannedSlice{1, 1}, PlannedSlice{2, 1}));
}

TEST(StepPlan, ChunksOfPromptsAndDecodeStepsTakeTurns) {
  const std::vector<SequenceProgress> sequences = {Decoding, Prompt(20), Decoding};
  const StepPlan chunk = PlanAfter(StepPhase::kDecode, sequences);
  EXPECT_EQ(chunk.phase, StepPhase::kPrefill);
  EXPECT_THAT(chunk.slices, ElementsAre(PlannedSlice{1, 5}));
  const StepPlan decode = PlanAfter(StepPhase::kPrefill, sequences);
  EXPECT_EQ(decode.phase, StepPhase::kDecode);
  EXPECT_THAT(decode.slices, ElementsAre(PlannedSlice{0, 1}, PlannedSlice{2, 1}));
}

TEST(StepPlan, AChunkHoldsSeveralShortPrompts) {
  const StepPlan plan = PlanAfter(StepPhase::kDecode, {Decoding, Prompt(2), Prompt(1), Prompt(9)});
  EXPECT_THAT(plan.slices, ElementsAre(PlannedSlice{1, 2}, PlannedSlice{2, 1}, PlannedSlice{3, 2}));
}

TEST(StepPlan, ReplayStopsBeforeTheTokenThatIsSampledFrom) {
  const SequenceProgress replaying{.n_prompt = 4, .n_tokens = 7, .n_computed = 4};
  const StepPlan alone = PlanAfter(StepPhase::kPrefill, {replaying});
  EXPECT_EQ(alone.phase, StepPhase::kReplay);
  EXPECT_EQ(KindOf(alone.phase), StepKind::kDecode);
  EXPECT_THAT(alone.slices, ElementsAre(PlannedSlice{0, 2}));

  const SequenceProgress longer{.n_prompt = 4, .n_tokens = 20, .n_computed = 4};
  EXPECT_THAT(PlanAfter(StepPhase::kDecode, {Decoding, longer}).slices, ElementsAre(PlannedSlice{1, 3}));
  EXPECT_EQ(PlanAfter(StepPhase::kReplay, {Decoding, longer}).phase, StepPhase::kDecode);
}

TEST(StepPlan, TheFirstThatIsBehindSaysWhatComesNext) {
  const SequenceProgress replaying{.n_prompt = 4, .n_tokens = 7, .n_computed = 4};
  EXPECT_THAT(PlanAfter(StepPhase::kDecode, {Prompt(3), replaying}).slices, ElementsAre(PlannedSlice{0, 3}));
  EXPECT_THAT(PlanAfter(StepPhase::kDecode, {replaying, Prompt(3)}).slices, ElementsAre(PlannedSlice{0, 2}));
}

}  // namespace
}  // namespace thermocline
