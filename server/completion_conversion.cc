// Between the messages of thermocline.v1 and the scheduler's plain data.
// SPDX-License-Identifier: Apache-2.0
#include "server/completion_conversion.h"

#include <google/protobuf/duration.pb.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <utility>

#include "model/printable.h"
#include "server/group_admission.h"
#include "server/prompt_text.h"

namespace thermocline {
namespace {

// Far above any use, and its nanoseconds fit 64 bits.
constexpr int64_t kMaxTimeLimitSeconds = 30 * 24 * 3600;
constexpr int32_t kNanosPerSecond = 1'000'000'000;
constexpr int64_t kNanosPerMilli = 1'000'000;

absl::StatusOr<std::chrono::milliseconds> ToTimeLimit(const google::protobuf::Duration& duration) {
  const int64_t seconds = duration.seconds();
  const int32_t nanos = duration.nanos();
  if (seconds < 0 || seconds > kMaxTimeLimitSeconds) {
    return FieldError("time_limit",
                      fmt::format("is {} s, allowed are [0, {}] s", seconds, kMaxTimeLimitSeconds));
  }
  if (nanos < 0 || nanos >= kNanosPerSecond) {
    return FieldError("time_limit", fmt::format("has {} ns, allowed are [0, {})", nanos, kNanosPerSecond));
  }
  // Rounded up, so that a limit below a millisecond does not become 0.
  return std::chrono::milliseconds(seconds * 1000 + (nanos + kNanosPerMilli - 1) / kNanosPerMilli);
}

absl::StatusOr<std::vector<TokenId>> ToPrompt(const v1::ChatMessages& chat,
                                              const ConversionContext& context) {
  TC_RETURN_IF_ERROR(CheckMessageCount("messages", static_cast<size_t>(chat.messages_size())));
  std::vector<ChatMessage> messages;
  for (const v1::ChatMessage& message : chat.messages()) {
    ChatMessage& said = messages.emplace_back();
    TC_ASSIGN_OR_RETURN(said.role,
                        ToRole(fmt::format("messages[{}].role", messages.size() - 1), message.role()));
    said.content = message.content();
  }
  const bool add_generation_prompt = !chat.has_add_generation_prompt() || chat.add_generation_prompt();
  return EncodeConversation("messages", messages, add_generation_prompt, context.chat_template,
                            context.tokenizer);
}

template <typename Message>
absl::StatusOr<std::vector<TokenId>> ToPrompt(const Message& message, const ConversionContext& context) {
  if (message.has_parse_special() && (message.has_token_ids() || message.has_messages())) {
    return FieldError("parse_special", "only text can be parsed, not token_ids or messages");
  }
  switch (message.prompt_case()) {
    case Message::kText:
      return EncodePrompt("prompt", message.text(), message.parse_special(), context.tokenizer);
    case Message::kTokenIds: {
      const auto& ids = message.token_ids().ids();
      if (ids.empty()) return FieldError("prompt", "token_ids is empty");
      return std::vector<TokenId>(ids.begin(), ids.end());
    }
    case Message::kMessages:
      return ToPrompt(message.messages(), context);
    case Message::PROMPT_NOT_SET:
      break;
  }
  return FieldError("prompt", "none of text, token_ids and messages is set");
}

// Absent scalars keep the scheduler's defaults.
SamplingOptions ToSampling(const v1::SamplingOptions& message) {
  SamplingOptions sampling;
  if (message.has_temperature()) sampling.temperature = message.temperature();
  if (message.has_top_k()) sampling.top_k = message.top_k();
  if (message.has_top_p()) sampling.top_p = message.top_p();
  if (message.has_min_p()) sampling.min_p = message.min_p();
  if (message.has_repetition_penalty()) sampling.repetition_penalty = message.repetition_penalty();
  if (message.has_presence_penalty()) sampling.presence_penalty = message.presence_penalty();
  if (message.has_frequency_penalty()) sampling.frequency_penalty = message.frequency_penalty();
  for (const v1::LogitBias& entry : message.logit_bias()) {
    sampling.logit_bias.emplace_back(entry.token_id(), entry.bias());
  }
  if (message.has_seed()) sampling.seed = message.seed();
  return sampling;
}

absl::StatusOr<StoppingOptions> ToStopping(const v1::StoppingOptions& message) {
  StoppingOptions stopping;
  if (message.has_max_tokens()) stopping.max_tokens = message.max_tokens();
  if (message.has_min_tokens()) stopping.min_tokens = message.min_tokens();
  stopping.stop.assign(message.stop().begin(), message.stop().end());
  if (message.has_include_stop()) stopping.include_stop = message.include_stop();
  if (message.has_ignore_eos()) stopping.ignore_eos = message.ignore_eos();
  if (message.has_time_limit()) {
    TC_ASSIGN_OR_RETURN(stopping.time_limit, ToTimeLimit(message.time_limit()));
  }
  return stopping;
}

template <typename Message>
absl::StatusOr<std::vector<CompletionRequest>> Convert(const Message& message,
                                                       const ConversionContext& context) {
  if (message.has_model() && message.model() != context.model) {
    return WithField(
        NotFound("model: \"{}\" is not served here, \"{}\" is", Printable(message.model()), context.model),
        "model");
  }
  const int64_t n = message.has_n() ? message.n() : 1;
  TC_RETURN_IF_ERROR(CheckChoices(n));
  CompletionRequest request;
  request.id = message.request_id();
  request.sampling = ToSampling(message.sampling());
  TC_ASSIGN_OR_RETURN(request.stopping, ToStopping(message.stopping()));
  if (message.has_quality()) {
    request.quality = ToQuality(message.quality());
    if (!request.quality) {
      return FieldError("quality", fmt::format("{} is unknown; known are QUALITY_EXACT, QUALITY_BALANCED, "
                                               "QUALITY_FAST",
                                               static_cast<int>(message.quality())));
    }
  }
  if (message.output().has_echo()) request.echo = message.output().echo();
  if (message.output().has_logprobs()) request.logprobs = message.output().logprobs();
  if (message.output().has_top_logprobs()) request.top_logprobs = message.output().top_logprobs();
  // Last, since it is the only step that takes time.
  TC_ASSIGN_OR_RETURN(request.prompt, ToPrompt(message, context));
  std::vector<CompletionRequest> choices;
  AppendChoices(request, n, choices);
  return choices;
}

void FillLogprob(const TokenLogprob& logprob, v1::TokenLogprob& message) {
  message.set_token_id(logprob.id);
  message.set_logprob(logprob.logprob);
  for (const auto& [id, value] : logprob.top) {
    v1::TopLogprob& top = *message.add_top();
    top.set_token_id(id);
    top.set_logprob(value);
  }
}

template <typename Message>
void Append(const CompletionDelta& delta, Message& message) {
  message.mutable_text()->append(delta.text);
  message.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  for (const TokenLogprob& logprob : delta.logprobs) FillLogprob(logprob, *message.add_logprobs());
}

v1::FinishReason ToMessage(FinishReason reason) {
  switch (reason) {
    case FinishReason::kUnspecified:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kEndToken:
      return v1::FINISH_REASON_END_TOKEN;
    case FinishReason::kStopString:
      return v1::FINISH_REASON_STOP_STRING;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kTimeLimit:
      return v1::FINISH_REASON_TIME_LIMIT;
    case FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  TC_CHECK(false);
}

}  // namespace

absl::StatusOr<std::vector<CompletionRequest>> ToCompletionRequests(const v1::CompleteRequest& message,
                                                                    const ConversionContext& context) {
  return Convert(message, context);
}

absl::StatusOr<std::vector<CompletionRequest>> ToCompletionRequests(const v1::StreamCompleteRequest& message,
                                                                    const ConversionContext& context) {
  return Convert(message, context);
}

v1::CompletionDelta ToMessage(CompletionDelta delta, int index) {
  v1::CompletionDelta message;
  message.set_index(index);
  message.set_text(std::move(delta.text));
  message.mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  for (const TokenLogprob& logprob : delta.logprobs) FillLogprob(logprob, *message.add_logprobs());
  return message;
}

v1::CompletionSummary ToMessage(const CompletionSummary& summary, int index) {
  v1::CompletionSummary message;
  message.set_index(index);
  message.set_finish_reason(ToMessage(summary.finish_reason));
  message.set_matched_stop(summary.matched_stop);
  message.mutable_usage()->set_prompt_tokens(summary.prompt_tokens);
  message.mutable_usage()->set_completion_tokens(summary.completion_tokens);
  message.mutable_usage()->set_cached_tokens(summary.cached_tokens);
  message.set_seed(summary.seed);
  v1::Timings& timings = *message.mutable_timings();
  timings.set_queue_ms(summary.timings.queue_ms);
  timings.set_prefill_ms(summary.timings.prefill_ms);
  timings.set_time_to_first_token_ms(summary.timings.time_to_first_token_ms);
  timings.set_decode_ms(summary.timings.decode_ms);
  timings.set_inter_token_p50_ms(summary.timings.inter_token_p50_ms);
  timings.set_inter_token_p99_ms(summary.timings.inter_token_p99_ms);
  timings.set_decode_tokens_per_second(summary.decode_tokens_per_second());
  message.set_quality(ToMessage(summary.quality));
  if (summary.decode_steps.tokens > 0) *message.mutable_sparsity() = ToMessage(summary.decode_steps);
  if (summary.audits.tokens > 0) {
    message.mutable_sparsity()->set_audited_tokens(summary.audits.tokens);
    message.mutable_sparsity()->set_predictor_recall(summary.audits.recall());
  }
  return message;
}

v1::Quality ToMessage(Quality quality) {
  switch (quality) {
    case Quality::kExact:
      return v1::QUALITY_EXACT;
    case Quality::kBalanced:
      return v1::QUALITY_BALANCED;
    case Quality::kFast:
      return v1::QUALITY_FAST;
  }
  TC_CHECK(false);
}

std::optional<Quality> ToQuality(v1::Quality quality) {
  switch (quality) {
    case v1::QUALITY_EXACT:
      return Quality::kExact;
    case v1::QUALITY_BALANCED:
      return Quality::kBalanced;
    case v1::QUALITY_FAST:
      return Quality::kFast;
    default:
      return std::nullopt;
  }
}

v1::Sparsity ToMessage(const StepSums& sums) {
  v1::Sparsity message;
  message.set_tokens(sums.tokens);
  message.set_neurons(sums.total.neurons);
  message.set_marked(sums.total.marked_neurons);
  message.set_active(sums.total.active_neurons);
  message.set_active_on_accelerators(sums.total.active_on_accelerators);
  message.set_bytes_per_token(sums.bytes_per_token());
  return message;
}

void AppendDelta(CompletionDelta delta, v1::CompleteResponse& response) { Append(delta, response); }
void AppendDelta(CompletionDelta delta, v1::CompletionChoice& choice) { Append(delta, choice); }

absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                              const Tokenizer& tokenizer) {
  const bool add_bos = !request.has_add_bos() || request.add_bos();
  auto ids = tokenizer.Encode(request.text(), {.add_bos = add_bos, .parse_special = request.parse_special()});
  if (!ids.ok()) return FieldError("text", MessageOf(ids.status()));
  v1::TokenizeResponse response;
  response.mutable_token_ids()->Add(ids->begin(), ids->end());
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                  const Tokenizer& tokenizer) {
  const auto& ids = request.token_ids();
  v1::DetokenizeResponse response;
  TC_ASSIGN_OR_RETURN(
      *response.mutable_text(),
      DecodeToText("token_ids", std::span(ids.data(), static_cast<size_t>(ids.size())), tokenizer));
  return response;
}

}  // namespace thermocline
