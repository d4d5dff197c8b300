// The fields that would change an answer and cannot be honoured.
// SPDX-License-Identifier: Apache-2.0
#include "server/openai_unsupported.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "scheduler/request.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

struct Unsupported {
  std::string_view name;
  std::string_view why;
  std::vector<Json> neutral;  // values that ask for nothing
};

const std::vector<Unsupported>& Table() {
  constexpr std::string_view kTools = "this server calls no tools";
  constexpr std::string_view kShape = "the form of answers cannot be constrained";
  constexpr std::string_view kText = "only text comes in and goes out";
  constexpr std::string_view kSampler = "the sampler does not know it";
  constexpr std::string_view kChat = "the chat template is the server's";
  static const std::vector<Unsupported> table = {
      {"tools", kTools, {}},
      {"tool_choice", kTools, {"none", "auto"}},
      {"functions", kTools, {}},
      {"function_call", kTools, {"none", "auto"}},
      {"web_search_options", kTools, {}},
      {"response_format", kShape, {Json{{"type", "text"}}}},
      {"grammar", kShape, {}},
      {"json_schema", kShape, {}},
      {"structured_outputs", kShape, {}},
      {"guided_json", kShape, {}},
      {"guided_regex", kShape, {}},
      {"guided_choice", kShape, {}},
      {"guided_grammar", kShape, {}},
      {"modalities", kText, {Json::array({"text"})}},
      {"audio", kText, {}},
      {"suffix", "text is only completed at its end", {}},
      {"prediction", "predicted outputs are not used", {}},
      {"prompt_logprobs", "log-probabilities of prompts are not computed", {}},
      {"use_beam_search", kSampler, {}},
      {"typical_p", kSampler, {1}},
      {"mirostat", kSampler, {0}},
      {"stop_token_ids", kSampler, {}},
      {"bad_words", kSampler, {}},
      {"allowed_token_ids", kSampler, {}},
      {"logits_processors", kSampler, {}},
      {"chat_template", kChat, {}},
      {"chat_template_kwargs", kChat, {}},
      {"documents", kChat, {}},
      {"continue_final_message", kChat, {}},
      {"truncate_prompt_tokens", "prompts are taken whole or refused", {}},
  };
  return table;
}

// `false`, and strings and containers without anything in them.
bool AsksForNothing(const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.is_null() || (value.is_structured() && value.empty());
}

}  // namespace

absl::Status RefuseUnsupported(const Json& body) {
  for (const Unsupported& field : Table()) {
    const auto found = body.find(field.name);
    if (found == body.end() || AsksForNothing(*found)) continue;
    if (std::ranges::find(field.neutral, *found) != field.neutral.end()) continue;
    return FieldError(field.name, fmt::format("is not supported: {}", field.why));
  }
  return absl::OkStatus();
}

}  // namespace thermocline
