// Steps of a sequence that is alone, as batches of one slice.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/model_runner.h"

namespace thermocline {
namespace {

SequenceSlice SliceOf(const StepInput& step) {
  return {.n_tokens = static_cast<int64_t>(step.tokens.size()),
          .first_position = step.first_position,
          .quality = step.quality};
}

MatrixView<float> OneRow(std::span<float> logits) {
  const auto n_vocab = static_cast<int64_t>(logits.size());
  return {logits.data(), 1, n_vocab, n_vocab};
}

}  // namespace

absl::Status ModelRunner::Forward(const StepInput& step, std::span<float> logits) {
  const SequenceSlice slice = SliceOf(step);
  return ForwardBatch({.tokens = step.tokens, .slices = {&slice, 1}, .kind = step.kind}, OneRow(logits));
}

absl::StatusOr<AuditFigures> ModelRunner::ForwardAudited(const StepInput& step, std::span<float> logits) {
  const SequenceSlice slice = SliceOf(step);
  return ForwardBatchAudited({.tokens = step.tokens, .slices = {&slice, 1}, .kind = step.kind},
                             OneRow(logits));
}

}  // namespace thermocline
