// Bodies of OpenAI's /v1/completions and /v1/chat/completions to the scheduler's requests.
// SPDX-License-Identifier: Apache-2.0
//
// Fields that are not known are ignored, since clients of many servers send many; those that would change the
// answer and cannot be honoured are refused. What is absent or null has OpenAI's default: temperature and
// top_p 1, and for /v1/completions 16 tokens.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"
#include "scheduler/request.h"

namespace thermocline {

enum class OpenAiEndpoint { kCompletions, kChat };

struct OpenAiRequest {
  OpenAiEndpoint endpoint = OpenAiEndpoint::kCompletions;
  int64_t n = 1;  // choices of each prompt
  bool stream = false;
  bool include_usage = false;  // of a stream
  bool trace = false;          // of the first choice
  // Prompt by prompt, n of each, valid for the limits. Choice i of a prompt has the seed asked for plus i.
  std::vector<CompletionRequest> choices;
};

// What requests are read against.
struct OpenAiContext {
  const Tokenizer& tokenizer;
  const ChatTemplate& chat_template;
  RequestLimits limits;
};

// FieldErrors with the names of OpenAI's fields. `id` becomes the choices' ids.
absl::StatusOr<OpenAiRequest> ParseOpenAiRequest(OpenAiEndpoint endpoint, const nlohmann::json& body,
                                                 const std::string& id, const OpenAiContext& context);

// The tokens of a chat: a body's `messages`, `add_generation_prompt`.
absl::StatusOr<std::vector<TokenId>> EncodeMessages(const nlohmann::json& body, const OpenAiContext& context);

// Of a body's `messages`; FieldErrors name the message.
absl::StatusOr<std::vector<ChatMessage>> ParseMessages(const nlohmann::json& messages);

// A body's array of token ids, at most 1 << 24; whether they are of the vocabulary is not looked at.
absl::StatusOr<std::vector<TokenId>> ParseTokenIds(const std::string& field, const nlohmann::json& ids);

}  // namespace thermocline
