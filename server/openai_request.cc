// Bodies of OpenAI's completion calls to the scheduler's requests.
// SPDX-License-Identifier: Apache-2.0
#include "server/openai_request.h"

#include <absl/strings/numbers.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "model/printable.h"
#include "server/group_admission.h"
#include "server/http_status.h"
#include "server/json_fields.h"
#include "server/openai_unsupported.h"
#include "server/prompt_text.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr int64_t kDefaultCompletionTokens = 16;
constexpr size_t kMostTokenIds = 1 << 24;  // far above any context
constexpr size_t kMostStopStrings = 64;    // before they are copied; ValidateRequest says the rest
constexpr size_t kMostLogitBias = 1024;

// The same error under the name that the field has here.
absl::Status Renamed(const absl::Status& status, std::string_view from, std::string_view to) {
  if (FieldOf(status) != from) return status;
  std::string_view problem = MessageOf(status);
  problem.remove_prefix(from.size() + 2);  // "from: "
  return FieldError(to, problem);
}

absl::Status ReadStop(const JsonFields& fields, std::vector<std::string>& stop) {
  const Json* const value = fields.Find("stop");
  if (value == nullptr) return absl::OkStatus();
  if (value->is_string()) {
    stop = {value->get<std::string>()};
    return absl::OkStatus();
  }
  if (!value->is_array()) return TypeError("stop", *value, "a string or an array of strings");
  if (value->size() > kMostStopStrings) {
    return FieldError("stop",
                      fmt::format("has {} strings, the limit is {}", value->size(), kMostStopStrings));
  }
  for (const Json& entry : *value) {
    if (!entry.is_string()) return TypeError("stop", entry, "a string or an array of strings");
    stop.push_back(entry.get<std::string>());
  }
  return absl::OkStatus();
}

absl::Status ReadLogitBias(const JsonFields& fields, std::vector<std::pair<TokenId, double>>& bias) {
  const Json* const value = fields.Find("logit_bias");
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_object()) return TypeError("logit_bias", *value, "an object of token ids and biases");
  if (value->size() > kMostLogitBias) {
    return FieldError("logit_bias",
                      fmt::format("has {} entries, the limit is {}", value->size(), kMostLogitBias));
  }
  for (const auto& [key, entry] : value->items()) {
    TokenId token = 0;
    if (!absl::SimpleAtoi(key, &token)) {
      return FieldError("logit_bias",
                        fmt::format("names token \"{}\", a token id is needed", Printable(key)));
    }
    if (!entry.is_number()) return TypeError("logit_bias", entry, "a number for each token");
    bias.emplace_back(token, entry.get<double>());
  }
  return absl::OkStatus();
}

absl::Status ReadSeed(const JsonFields& fields, std::optional<uint64_t>& seed) {
  const Json* const value = fields.Find("seed");
  if (value == nullptr) return absl::OkStatus();
  if (value->is_number_unsigned()) {
    seed = value->get<uint64_t>();
    return absl::OkStatus();
  }
  const std::optional<int64_t> number = WholeNumber(*value);
  if (!number) return TypeError("seed", *value, "a whole number of 64 bits");
  seed = static_cast<uint64_t>(*number);  // negative ones are seeds like any other
  return absl::OkStatus();
}

absl::Status ReadQuality(const JsonFields& fields, std::optional<Quality>& quality) {
  if (!fields.Has("quality")) return absl::OkStatus();
  std::string name;
  TC_RETURN_IF_ERROR(fields.Read("quality", name));
  for (const Quality known : OfferedQualities(/*predicts=*/true)) {
    if (NameOf(known) == name) quality = known;
  }
  if (!quality) {
    return FieldError("quality",
                      fmt::format("\"{}\" is unknown; known are exact, balanced, fast", Printable(name)));
  }
  return absl::OkStatus();
}

absl::Status ReadSampling(const JsonFields& fields, SamplingOptions& sampling) {
  sampling.temperature = 1.0;
  TC_RETURN_IF_ERROR(fields.Read("temperature", sampling.temperature));
  TC_RETURN_IF_ERROR(fields.Read("top_p", sampling.top_p));
  // Elsewhere -1 keeps all, too.
  TC_RETURN_IF_ERROR(fields.Read("top_k", sampling.top_k));
  if (sampling.top_k == -1) sampling.top_k = 0;
  TC_RETURN_IF_ERROR(fields.Read("min_p", sampling.min_p));
  TC_RETURN_IF_ERROR(fields.Read("repetition_penalty", sampling.repetition_penalty));
  TC_RETURN_IF_ERROR(fields.Read("presence_penalty", sampling.presence_penalty));
  TC_RETURN_IF_ERROR(fields.Read("frequency_penalty", sampling.frequency_penalty));
  TC_RETURN_IF_ERROR(ReadLogitBias(fields, sampling.logit_bias));
  return ReadSeed(fields, sampling.seed);
}

// `max_tokens_field`: which of the two names the request uses.
absl::Status ReadStopping(const JsonFields& fields, std::string_view max_tokens_field,
                          StoppingOptions& stopping) {
  TC_RETURN_IF_ERROR(fields.Read(max_tokens_field, stopping.max_tokens));
  TC_RETURN_IF_ERROR(fields.Read("min_tokens", stopping.min_tokens));
  TC_RETURN_IF_ERROR(ReadStop(fields, stopping.stop));
  TC_RETURN_IF_ERROR(fields.Read("include_stop_str_in_output", stopping.include_stop));
  TC_RETURN_IF_ERROR(fields.Read("ignore_eos", stopping.ignore_eos));
  std::optional<int64_t> time_limit_ms;
  TC_RETURN_IF_ERROR(fields.Read("time_limit_ms", time_limit_ms));
  if (time_limit_ms) stopping.time_limit = std::chrono::milliseconds(*time_limit_ms);
  return absl::OkStatus();
}

absl::Status ReadStream(const JsonFields& fields, OpenAiRequest& request) {
  TC_RETURN_IF_ERROR(fields.Read("stream", request.stream));
  const Json* const options = fields.Find("stream_options");
  if (options == nullptr) return absl::OkStatus();
  if (!options->is_object()) return TypeError("stream_options", *options, "an object");
  if (!request.stream) return FieldError("stream_options", "is only for requests with stream");
  return JsonFields(*options, "stream_options.").Read("include_usage", request.include_usage);
}

absl::Status ReadChoices(const JsonFields& fields, int64_t& n) {
  TC_RETURN_IF_ERROR(fields.Read("n", n));
  TC_RETURN_IF_ERROR(CheckChoices(n));
  int64_t best_of = n;
  TC_RETURN_IF_ERROR(fields.Read("best_of", best_of));
  if (best_of != n) return FieldError("best_of", fmt::format("is {}, allowed is only n, {}", best_of, n));
  return absl::OkStatus();
}

absl::Status ReadCompletionsOutput(const JsonFields& fields, CompletionRequest& request) {
  TC_RETURN_IF_ERROR(fields.Read("echo", request.echo));
  std::optional<int64_t> logprobs;
  TC_RETURN_IF_ERROR(fields.Read("logprobs", logprobs));
  if (!logprobs) return absl::OkStatus();
  if (request.echo) {
    return FieldError("echo", "cannot be combined with logprobs: those of prompts are not computed");
  }
  request.logprobs = true;
  request.top_logprobs = static_cast<int>(std::clamp<int64_t>(*logprobs, -1, 1 << 20));
  return absl::OkStatus();
}

absl::Status ReadChatOutput(const JsonFields& fields, CompletionRequest& request) {
  TC_RETURN_IF_ERROR(fields.Read("logprobs", request.logprobs));
  int64_t top_logprobs = 0;
  TC_RETURN_IF_ERROR(fields.Read("top_logprobs", top_logprobs));
  if (top_logprobs > 0 && !request.logprobs) return FieldError("top_logprobs", "needs logprobs to be true");
  request.top_logprobs = static_cast<int>(std::clamp<int64_t>(top_logprobs, -1, 1 << 20));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TokenId>> ReadPrompt(const Json& prompt, bool parse_special,
                                                const Tokenizer& tokenizer) {
  if (!prompt.is_string()) return ParseTokenIds("prompt", prompt);
  return EncodePrompt("prompt", prompt.get_ref<const std::string&>(), parse_special, tokenizer);
}

// A string, token ids, or a list of strings or of token ids: a list of prompts either way.
absl::StatusOr<std::vector<std::vector<TokenId>>> ReadPrompts(const JsonFields& fields, int64_t n,
                                                              const Tokenizer& tokenizer) {
  bool parse_special = false;
  TC_RETURN_IF_ERROR(fields.Read("parse_special", parse_special));
  const Json* const value = fields.Find("prompt");
  if (value == nullptr) return FieldError("prompt", "is missing");
  const bool is_list = value->is_array() && !value->empty() && !value->front().is_number();
  if (!is_list) {
    if (!value->is_string() && !value->is_array()) {
      return TypeError("prompt", *value, "a string, an array of token ids, or an array of such");
    }
    std::vector<std::vector<TokenId>> prompts(1);
    TC_ASSIGN_OR_RETURN(prompts[0], ReadPrompt(*value, parse_special, tokenizer));
    return prompts;
  }
  if (value->size() > static_cast<size_t>(kMostChoices / n)) {
    return FieldError("prompt", fmt::format("has {} prompts of {} choices, at most {} choices are allowed",
                                            value->size(), n, kMostChoices));
  }
  std::vector<std::vector<TokenId>> prompts;
  for (const Json& entry : *value) {
    if (!entry.is_string() && !entry.is_array()) {
      return TypeError("prompt", entry, "for each prompt a string or an array of token ids");
    }
    TC_ASSIGN_OR_RETURN(prompts.emplace_back(), ReadPrompt(entry, parse_special, tokenizer));
  }
  return prompts;
}

absl::Status Validate(const CompletionRequest& request, const OpenAiContext& context, std::string_view prompt,
                      std::string_view max_tokens, std::string_view top_logprobs) {
  absl::Status status = ValidateRequest(request, context.limits);
  const bool too_long = static_cast<int64_t>(request.prompt.size()) >= context.limits.context_length;
  status = Renamed(status, "prompt", prompt);
  status = Renamed(status, "max_tokens", max_tokens);
  status = Renamed(status, "top_logprobs", top_logprobs);
  status = Renamed(status, "time_limit", "time_limit_ms");
  return FieldOf(status) == prompt && too_long ? WithErrorCode(status, "context_length_exceeded") : status;
}

}  // namespace

absl::StatusOr<std::vector<TokenId>> EncodeMessages(const Json& body, const OpenAiContext& context) {
  const JsonFields fields(body);
  const Json* const value = fields.Find("messages");
  if (value == nullptr) return FieldError("messages", "is missing");
  TC_ASSIGN_OR_RETURN(const std::vector<ChatMessage> messages, ParseMessages(*value));
  bool add_generation_prompt = true;
  TC_RETURN_IF_ERROR(fields.Read("add_generation_prompt", add_generation_prompt));
  return EncodeConversation("messages", messages, add_generation_prompt, context.chat_template,
                            context.tokenizer);
}

absl::StatusOr<std::vector<TokenId>> ParseTokenIds(const std::string& field, const Json& ids) {
  if (!ids.is_array()) return TypeError(field, ids, "an array of token ids");
  if (ids.size() > kMostTokenIds) {
    return FieldError(field, fmt::format("has {} tokens, the limit is {}", ids.size(), kMostTokenIds));
  }
  std::vector<TokenId> tokens;
  tokens.reserve(ids.size());
  for (const Json& id : ids) {
    const std::optional<int64_t> number = WholeNumber(id);
    if (!number) return TypeError(field, id, "an array of token ids");
    if (*number < 0 || *number > std::numeric_limits<TokenId>::max()) {
      return FieldError(field, fmt::format("has token {}, which no vocabulary has", *number));
    }
    tokens.push_back(static_cast<TokenId>(*number));
  }
  return tokens;
}

absl::StatusOr<OpenAiRequest> ParseOpenAiRequest(OpenAiEndpoint endpoint, const Json& body,
                                                 const std::string& id, const OpenAiContext& context) {
  const JsonFields fields(body);
  const bool chat = endpoint == OpenAiEndpoint::kChat;
  TC_RETURN_IF_ERROR(RefuseUnsupported(body));
  OpenAiRequest request{.endpoint = endpoint};
  TC_RETURN_IF_ERROR(ReadStream(fields, request));
  TC_RETURN_IF_ERROR(ReadChoices(fields, request.n));
  TC_RETURN_IF_ERROR(fields.Read("trace", request.trace));

  CompletionRequest choice{.id = id};
  const std::string_view max_tokens =
      fields.Has("max_completion_tokens") ? "max_completion_tokens" : "max_tokens";
  if (!chat) choice.stopping.max_tokens = kDefaultCompletionTokens;
  TC_RETURN_IF_ERROR(ReadSampling(fields, choice.sampling));
  TC_RETURN_IF_ERROR(ReadStopping(fields, max_tokens, choice.stopping));
  TC_RETURN_IF_ERROR(ReadQuality(fields, choice.quality));
  TC_RETURN_IF_ERROR(chat ? ReadChatOutput(fields, choice) : ReadCompletionsOutput(fields, choice));

  // Last, since it is the only step that takes time.
  std::vector<std::vector<TokenId>> prompts(1);
  if (chat) {
    TC_ASSIGN_OR_RETURN(prompts[0], EncodeMessages(body, context));
  } else {
    TC_ASSIGN_OR_RETURN(prompts, ReadPrompts(fields, request.n, context.tokenizer));
  }
  for (std::vector<TokenId>& prompt : prompts) {
    choice.prompt = std::move(prompt);
    TC_RETURN_IF_ERROR(Validate(choice, context, chat ? "messages" : "prompt", max_tokens,
                                chat ? "top_logprobs" : "logprobs"));
    AppendChoices(choice, request.n, request.choices);
  }
  NumberChoices(request.choices);
  return request;
}

}  // namespace thermocline
