// StepExecutor.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_executor.h"

#include <algorithm>
#include <optional>

#include "scheduler/request_trace.h"

namespace thermocline {
namespace {

// Whether the next token is sampled after the slice: it ends with the last that is known.
bool WantsLogits(const SliceWork& work) {
  const SequenceProgress progress = work.sequence->progress();
  return progress.n_computed + work.n_tokens == progress.n_tokens;
}

// Tells the traces of a step's requests which operators ran.
class TraceWriter final : public OperatorObserver {
 public:
  explicit TraceWriter(std::span<const SliceWork> work) : work_(work) {}
  bool wanted() const {
    return std::ranges::any_of(
        work_, [](const SliceWork& slice) { return slice.sequence->request.trace != nullptr; });
  }
  void OnRun(const OperatorGraph& graph, std::span<const OperatorTiming> timings) override {
    for (const SliceWork& slice : work_) {
      if (slice.sequence->request.trace) slice.sequence->request.trace->AddOperators(graph, timings);
    }
  }

 private:
  const std::span<const SliceWork> work_;
};

}  // namespace

StepExecutor::StepExecutor(ModelRunner& runner, int64_t max_slices, int64_t audit_every)
    : runner_(runner),
      n_vocab_(runner.n_vocab()),
      audit_every_(audit_every),
      logits_(static_cast<size_t>(max_slices * n_vocab_)) {
  slices_.reserve(static_cast<size_t>(max_slices));
  tokens_.reserve(static_cast<size_t>(runner.max_step_tokens()));
}

absl::Status StepExecutor::Execute(StepPhase phase, std::span<SliceWork> work) {
  // Audited tokens are steps of their own, behind the others.
  for (SliceWork& slice : work) slice.audited = phase == StepPhase::kDecode && AuditIsDue(*slice.sequence);
  const auto audited = std::ranges::partition(work, [](const SliceWork& slice) { return !slice.audited; });
  const size_t n_shared = work.size() - audited.size();
  // Tokens of the same mode stand together, so that the runner computes them together.
  std::ranges::partition(work.first(n_shared), [](const SliceWork& slice) {
    return slice.sequence->completion.quality() == Quality::kExact;
  });
  counts_.last_requests = static_cast<int64_t>(work.size());
  counts_.last_tokens = 0;
  if (n_shared > 0) TC_RETURN_IF_ERROR(RunTogetherOrAlone(phase, work.first(n_shared)));
  for (size_t i = n_shared; i < work.size(); ++i) {
    work[i].status = RunStep(phase, work.subspan(i, 1), static_cast<int64_t>(i), /*audit=*/true);
    if (!work[i].status.ok()) TC_RETURN_IF_ERROR(runner_.health());
  }
  counts_.execution = runner_.execution_stats();
  return absl::OkStatus();
}

bool StepExecutor::AuditIsDue(const Sequence& sequence) {
  if (audit_every_ == 0 || sequence.completion.quality() == Quality::kExact) return false;
  return ++auditable_tokens_ % audit_every_ == 0;
}

absl::Status StepExecutor::RunTogetherOrAlone(StepPhase phase, std::span<SliceWork> work) {
  absl::Status status = RunStep(phase, work, 0, /*audit=*/false);
  if (status.ok()) return status;
  TC_RETURN_IF_ERROR(runner_.health());
  if (work.size() == 1) {
    work[0].status = std::move(status);
    return absl::OkStatus();
  }
  for (size_t i = 0; i < work.size(); ++i) {
    work[i].status = RunStep(phase, work.subspan(i, 1), static_cast<int64_t>(i), /*audit=*/false);
    if (!work[i].status.ok()) TC_RETURN_IF_ERROR(runner_.health());
  }
  return absl::OkStatus();
}

absl::Status StepExecutor::RunStep(StepPhase phase, std::span<SliceWork> work, int64_t first, bool audit) {
  tokens_.clear();
  slices_.clear();
  float* const rows = logits_.data() + first * n_vocab_;
  int64_t n_rows = 0;
  for (SliceWork& slice : work) {
    const Sequence& sequence = *slice.sequence;
    const auto begin = sequence.tokens.begin() + sequence.n_computed;
    tokens_.insert(tokens_.end(), begin, begin + slice.n_tokens);
    const bool wants_logits = WantsLogits(slice);
    slices_.push_back(
        {.n_tokens = slice.n_tokens,
         .first_position = sequence.n_computed,
         .pages = sequence.pages,
         .quality = phase == StepPhase::kPrefill ? Quality::kExact : sequence.completion.quality(),
         .wants_logits = wants_logits});
    slice.logits = {};
    if (wants_logits) slice.logits = {rows + n_rows++ * n_vocab_, static_cast<size_t>(n_vocab_)};
  }
  TraceWriter traces(work);
  const BatchStep step{.tokens = tokens_,
                       .slices = slices_,
                       .kind = KindOf(phase),
                       .observer = traces.wanted() ? &traces : nullptr};
  const MatrixView<float> logits{rows, n_rows, n_vocab_, n_vocab_};
  std::optional<AuditFigures> figures;
  if (audit) {
    TC_ASSIGN_OR_RETURN(figures, runner_.ForwardBatchAudited(step, logits));
    counts_.audits.Add(*figures);
    work.front().sequence->completion.CountAudit(*figures);
  } else {
    TC_RETURN_IF_ERROR(runner_.ForwardBatch(step, logits));
  }
  Count(phase, work);
  return absl::OkStatus();
}

void StepExecutor::Count(StepPhase phase, std::span<const SliceWork> work) {
  const auto n_tokens = static_cast<int64_t>(tokens_.size());
  counts_.last_tokens += n_tokens;
  ++(phase == StepPhase::kPrefill ? counts_.prefill_steps : counts_.decode_steps);
  if (phase != StepPhase::kDecode) return;
  const StepFigures figures = runner_.last_step();
  for (size_t i = 0; i < work.size(); ++i) {
    const StepFigures share = ShareOf(figures, static_cast<int64_t>(i), n_tokens);
    work[i].sequence->completion.CountDecodeStep(share);
    counts_.decode_sums.Add(share);
  }
}

}  // namespace thermocline
