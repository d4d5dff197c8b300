// Completion: the answer of one request as it grows: sampling, text, ends, figures.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>

#include "core/random.h"
#include "model/tokenizer.h"
#include "scheduler/completion_observer.h"
#include "scheduler/request.h"
#include "scheduler/sampler.h"
#include "scheduler/text_stream.h"
#include "scheduler/token_clock.h"

namespace thermocline {

class Completion {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // All must outlive it. The request is valid within `limits`.
  Completion(const CompletionRequest& request, CompletionObserver& observer, const Tokenizer& tokenizer,
             const RequestLimits& limits, TimePoint arrival);

  Quality quality() const { return summary_.quality; }
  int64_t max_tokens() const { return max_tokens_; }
  bool done() const { return summary_.finish_reason != FinishReason::kUnspecified; }
  bool TimeIsUp(TimePoint now) const;

  // The request has its place; `cached_tokens` of its prompt need no computing. The first call counts, and
  // gives true.
  bool Admit(TimePoint now, int64_t cached_tokens);
  // Gives out the prompt's text, once, where the request asks for it.
  void Echo();
  // Samples the next token, gives it out and says whether it was the last (done()). nullopt, and done, when
  // the logits are not finite.
  std::optional<TokenId> Take(std::span<const float> logits, TimePoint now, SamplerScratch& scratch);
  void CountDecodeStep(const StepFigures& share) { summary_.decode_steps.Add(share); }
  void CountAudit(const AuditFigures& audit) { summary_.audits.Add(audit); }

  // Gives out what was held back of the text. What is not done ends for want of time.
  CompletionSummary Finish();

 private:
  FinishReason ReasonToEnd(bool is_end_token, TimePoint now) const;

  const CompletionRequest& request_;
  CompletionObserver& observer_;
  const std::span<const TokenId> end_tokens_;
  const int64_t max_tokens_;
  const bool penalizes_;  // whether the history matters
  const TimePoint arrival_;
  std::optional<TimePoint> admitted_;
  bool echoed_;
  TextStream text_;
  TokenHistory history_;
  TokenClock clock_;
  CompletionSummary summary_;
  SplitMix64 random_;
};

}  // namespace thermocline
