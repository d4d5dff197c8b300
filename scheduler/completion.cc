// Completion.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/completion.h"

#include <algorithm>
#include <random>
#include <utility>

namespace thermocline {
namespace {

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

int64_t MostTokens(const CompletionRequest& request, const RequestLimits& limits) {
  const int64_t room = limits.context_length - static_cast<int64_t>(request.prompt.size());
  return std::min(request.stopping.max_tokens.value_or(room), room);
}

}  // namespace

Completion::Completion(const CompletionRequest& request, CompletionObserver& observer,
                       const Tokenizer& tokenizer, const RequestLimits& limits, TimePoint arrival)
    : request_(request),
      observer_(observer),
      end_tokens_(tokenizer.end_tokens()),
      max_tokens_(MostTokens(request, limits)),
      penalizes_(Penalizes(request.sampling)),
      arrival_(arrival),
      echoed_(!request.echo),
      text_(tokenizer, request.stopping, /*at_start=*/request.echo),
      clock_(arrival),
      summary_{.prompt_tokens = static_cast<int64_t>(request.prompt.size()),
               .seed = request.sampling.seed ? *request.sampling.seed : RandomSeed(),
               .quality = request.quality.value_or(DefaultQuality(limits.predicts))},
      random_(summary_.seed) {
  if (penalizes_) history_.AddPrompt(request.prompt);
}

bool Completion::Admit(TimePoint now, int64_t cached_tokens) {
  if (admitted_) return false;
  admitted_ = now;
  summary_.cached_tokens = cached_tokens;
  summary_.timings.queue_ms = MillisecondsBetween(arrival_, now);
  return true;
}

void Completion::Echo() {
  if (std::exchange(echoed_, true)) return;
  observer_.OnDelta({.text = text_.PushPrompt(request_.prompt)});
}

std::optional<TokenId> Completion::Take(std::span<const float> logits, TimePoint now,
                                        SamplerScratch& scratch) {
  const bool may_stop = summary_.completion_tokens + 1 > request_.stopping.min_tokens;
  const std::span<const TokenId> banned = may_stop ? std::span<const TokenId>() : end_tokens_;
  const std::optional<TokenId> token =
      SampleToken(logits, request_.sampling, history_, banned, random_, scratch);
  if (!token) {
    summary_.finish_reason = FinishReason::kError;
    return std::nullopt;
  }
  if (penalizes_) history_.AddGenerated(*token);
  if (summary_.completion_tokens++ == 0) summary_.timings.prefill_ms = MillisecondsBetween(*admitted_, now);
  clock_.Tick(now);

  CompletionDelta delta;
  delta.token_ids = {*token};
  if (request_.logprobs || request_.top_logprobs > 0)
    delta.logprobs.push_back(LogprobOf(logits, *token, request_.top_logprobs));
  const bool is_end = !request_.stopping.ignore_eos && std::ranges::count(end_tokens_, *token) > 0;
  if (!is_end) delta.text = text_.Push(*token, may_stop);
  summary_.finish_reason = ReasonToEnd(is_end, now);
  observer_.OnDelta(std::move(delta));
  return token;
}

bool Completion::TimeIsUp(TimePoint now) const {
  return request_.stopping.time_limit && now - arrival_ >= *request_.stopping.time_limit;
}

FinishReason Completion::ReasonToEnd(bool is_end_token, TimePoint now) const {
  if (is_end_token) return FinishReason::kEndToken;
  if (text_.stopped()) return FinishReason::kStopString;
  if (summary_.completion_tokens >= max_tokens_) return FinishReason::kLength;
  return TimeIsUp(now) ? FinishReason::kTimeLimit : FinishReason::kUnspecified;
}

CompletionSummary Completion::Finish() {
  Echo();
  if (!done()) summary_.finish_reason = FinishReason::kTimeLimit;
  if (std::string rest = text_.Finish(); !rest.empty()) observer_.OnDelta({.text = std::move(rest)});
  // Held-back text may complete a stop string only now.
  if (text_.stopped() && summary_.finish_reason != FinishReason::kError)
    summary_.finish_reason = FinishReason::kStopString;
  summary_.matched_stop = text_.matched();
  clock_.Report(summary_.timings);
  return summary_;
}

}  // namespace thermocline
