// Answers of OpenAI's two completion endpoints.
// SPDX-License-Identifier: Apache-2.0
#include "server/openai_response.h"

#include <utility>

namespace thermocline {
namespace {

using Json = nlohmann::json;

Json Message(const std::string& text) {
  return {{"role", "assistant"}, {"content", text}, {"refusal", nullptr}};
}

Json Envelope(const OpenAiEnvelope& envelope, const char* object, Json choices) {
  return {{"id", envelope.id},
          {"object", object},
          {"created", envelope.created},
          {"model", envelope.model},
          {"system_fingerprint", envelope.system_fingerprint},
          {"choices", std::move(choices)}};
}

}  // namespace

std::string ToText(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string ToEvent(const Json& value) { return "data: " + ToText(value) + "\n\n"; }

Json OwnFigures(const CompletionSummary& summary) {
  const CompletionTimings& timings = summary.timings;
  const StepSums& steps = summary.decode_steps;
  Json figures = {{"seed", summary.seed},
                  {"quality", NameOf(summary.quality)},
                  {"matched_stop", nullptr},
                  {"timings",
                   {{"queue_ms", timings.queue_ms},
                    {"prefill_ms", timings.prefill_ms},
                    {"time_to_first_token_ms", timings.time_to_first_token_ms},
                    {"decode_ms", timings.decode_ms},
                    {"inter_token_p50_ms", timings.inter_token_p50_ms},
                    {"inter_token_p99_ms", timings.inter_token_p99_ms},
                    {"decode_tokens_per_second", summary.decode_tokens_per_second()}}},
                  {"sparsity", nullptr}};
  if (!summary.matched_stop.empty()) figures["matched_stop"] = summary.matched_stop;
  if (steps.tokens > 0) {
    figures["sparsity"] = {{"tokens", steps.tokens},
                           {"neurons", steps.total.neurons},
                           {"marked", steps.total.marked_neurons},
                           {"active", steps.total.active_neurons},
                           {"active_on_accelerators", steps.total.active_on_accelerators},
                           {"bytes_per_token", steps.bytes_per_token()},
                           {"audited_tokens", summary.audits.tokens},
                           {"predictor_recall", nullptr}};
    if (summary.audits.tokens > 0) figures["sparsity"]["predictor_recall"] = summary.audits.recall();
  }
  return figures;
}

Json WholeChoice(OpenAiEndpoint endpoint, size_t index, const std::string& text, Json logprobs,
                 const CompletionSummary& summary) {
  Json choice = {{"index", index},
                 {"finish_reason", NameOf(summary.finish_reason)},
                 {"logprobs", std::move(logprobs)},
                 {"thermocline", OwnFigures(summary)}};
  if (endpoint == OpenAiEndpoint::kChat) {
    choice["message"] = Message(text);
  } else {
    choice["text"] = text;
  }
  return choice;
}

Json RoleChoice(size_t index) {
  return {{"index", index},
          {"delta", {{"role", "assistant"}, {"content", ""}}},
          {"logprobs", nullptr},
          {"finish_reason", nullptr}};
}

Json DeltaChoice(OpenAiEndpoint endpoint, size_t index, const std::string& text, Json logprobs) {
  Json choice = {{"index", index}, {"logprobs", std::move(logprobs)}, {"finish_reason", nullptr}};
  if (endpoint == OpenAiEndpoint::kChat) {
    choice["delta"] = {{"content", text}};
  } else {
    choice["text"] = text;
  }
  return choice;
}

Json LastChoice(OpenAiEndpoint endpoint, size_t index, const CompletionSummary& summary) {
  Json choice = {{"index", index},
                 {"logprobs", nullptr},
                 {"finish_reason", NameOf(summary.finish_reason)},
                 {"thermocline", OwnFigures(summary)}};
  if (endpoint == OpenAiEndpoint::kChat) {
    choice["delta"] = Json::object();
  } else {
    choice["text"] = "";
  }
  return choice;
}

Json Usage(std::span<const CompletionSummary> summaries, int64_t n) {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  for (size_t i = 0; i < summaries.size(); ++i) {
    if (i % static_cast<size_t>(n) == 0) {
      prompt_tokens += summaries[i].prompt_tokens;
      cached_tokens += summaries[i].cached_tokens;
    }
    completion_tokens += summaries[i].completion_tokens;
  }
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens}}}};
}

Json WholeAnswer(const OpenAiEnvelope& envelope, Json choices, Json usage) {
  const char* const object =
      envelope.endpoint == OpenAiEndpoint::kChat ? "chat.completion" : "text_completion";
  Json answer = Envelope(envelope, object, std::move(choices));
  answer["usage"] = std::move(usage);
  return answer;
}

Json StreamAnswer(const OpenAiEnvelope& envelope, Json choices) {
  const char* const object =
      envelope.endpoint == OpenAiEndpoint::kChat ? "chat.completion.chunk" : "text_completion";
  return Envelope(envelope, object, std::move(choices));
}

}  // namespace thermocline
