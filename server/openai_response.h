// Answers of OpenAI's /v1/completions and /v1/chat/completions, whole and as events of a stream.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "model/tokenizer.h"
#include "scheduler/request.h"
#include "server/openai_request.h"

namespace thermocline {

// Replaces what is not UTF-8, which only messages about clients' bytes have.
std::string ToText(const nlohmann::json& value);
// One event of a stream: "data: ...".
std::string ToEvent(const nlohmann::json& value);
inline constexpr std::string_view kLastEvent = "data: [DONE]\n\n";

// How a choice ended, as far as the API's own fields do not say it: seed, quality, timings, sparsity.
nlohmann::json OwnFigures(const CompletionSummary& summary);

// Log-probabilities in the endpoint's form. End tokens are left out, since the text does not have them
// either.
class LogprobWriter {
 public:
  LogprobWriter(OpenAiEndpoint endpoint, const Tokenizer& tokenizer, bool ignore_eos);

  // Of the tokens that follow those of the calls before.
  nlohmann::json Write(std::span<const TokenLogprob> logprobs);

 private:
  nlohmann::json WriteCompletions(std::span<const TokenLogprob> logprobs);
  nlohmann::json WriteChat(std::span<const TokenLogprob> logprobs) const;
  bool IsShown(TokenId token) const;

  const OpenAiEndpoint endpoint_;
  const Tokenizer& tokenizer_;
  const bool ignore_eos_;
  int64_t text_offset_ = 0;  // in characters, of the next token
};

// What every answer of one call says.
struct OpenAiEnvelope {
  OpenAiEndpoint endpoint = OpenAiEndpoint::kCompletions;
  std::string id;
  std::string model;
  std::string system_fingerprint;
  int64_t created = 0;  // seconds since 1970
};

// One choice of a whole answer. `logprobs` may be null.
nlohmann::json WholeChoice(OpenAiEndpoint endpoint, size_t index, const std::string& text,
                           nlohmann::json logprobs, const CompletionSummary& summary);
// The same for events of a stream: the first of a chat's choice, which names the role; text; the last.
nlohmann::json RoleChoice(size_t index);
nlohmann::json DeltaChoice(OpenAiEndpoint endpoint, size_t index, const std::string& text,
                           nlohmann::json logprobs);
nlohmann::json LastChoice(OpenAiEndpoint endpoint, size_t index, const CompletionSummary& summary);

// `summaries`: n for each prompt; each prompt counts once.
nlohmann::json Usage(std::span<const CompletionSummary> summaries, int64_t n);

// StreamAnswer is one event of a stream.
nlohmann::json WholeAnswer(const OpenAiEnvelope& envelope, nlohmann::json choices, nlohmann::json usage);
nlohmann::json StreamAnswer(const OpenAiEnvelope& envelope, nlohmann::json choices);

}  // namespace thermocline
