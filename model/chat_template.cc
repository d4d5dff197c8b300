// Chat templates: the named ones, rendering, and tokens from what was rendered.
// SPDX-License-Identifier: Apache-2.0
#include "model/chat_template.h"

#include <algorithm>
#include <utility>

#include "model/jinja_evaluator.h"
#include "model/jinja_parser.h"
#include "model/printable.h"

namespace thermocline {
namespace {

struct Named {
  std::string_view name;
  std::string_view source;
};

constexpr Named kNamed[] = {
    {"chatml", R"({% for message in messages %}
{{ '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{%- endif %})"},

    // The system's message stands inside of the first turn; a turn is what one asks and the other answers.
    {"llama2", R"({% set ns = namespace(system='', asked=false) %}
{% for message in messages %}
{% if message.role == 'system' and loop.first %}
{% set ns.system = '<<SYS>>\n' ~ message.content ~ '\n<</SYS>>\n\n' %}
{% elif message.role == 'user' and not ns.asked %}
{{ bos_token ~ '[INST] ' ~ (ns.system ~ message.content) | trim ~ ' [/INST]' }}
{%- set ns.system = '' %}
{% set ns.asked = true %}
{% elif message.role == 'assistant' and ns.asked %}
{{ ' ' ~ message.content | trim ~ ' ' ~ eos_token }}
{%- set ns.asked = false %}
{% else %}
{{ raise_exception('after the system message, user and assistant must take turns') }}
{% endif %}
{% endfor %})"},

    {"llama3", R"({{ bos_token }}
{%- for message in messages %}
{{ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' ~ message.content | trim ~ '<|eot_id|>' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %})"},

    // There is no role for the system: its message opens the first turn.
    {"gemma", R"({{ bos_token }}
{%- set ns = namespace(system='', asked=false) %}
{% for message in messages %}
{% if message.role == 'system' and loop.first %}
{% set ns.system = message.content ~ '\n\n' %}
{% elif (message.role == 'user') != ns.asked and message.role in ['user', 'assistant'] %}
{{ '<start_of_turn>' ~ ('user' if message.role == 'user' else 'model') ~ '\n' ~ ns.system }}
{{- message.content | trim ~ '<end_of_turn>\n' }}
{%- set ns.system = '' %}
{% set ns.asked = not ns.asked %}
{% else %}
{{ raise_exception('after the system message, user and assistant must take turns') }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<start_of_turn>model\n' }}
{%- endif %})"},

    {"none", R"({% for message in messages %}
{{ message.content }}
{%- if not loop.last %}{{ '\n' }}{% endif %}
{% endfor %})"},
};

constexpr std::string_view kNames[] = {kNamed[0].name, kNamed[1].name, kNamed[2].name, kNamed[3].name,
                                       kNamed[4].name};

// Templates put a role between the halves of a marker ("<|" + role + "|>"), so that known ones count as the
// template's own words.
bool IsKnownRole(std::string_view role) {
  constexpr std::string_view kRoles[] = {"assistant", "developer", "function", "system", "tool", "user"};
  return std::ranges::count(kRoles, role) > 0;
}

}  // namespace

struct ChatTemplate::Program {
  JinjaBody body;
  ChatTokens tokens;
};

std::string ChatPrompt::Text() const {
  std::string text;
  for (const ChatPiece& piece : pieces) text += piece.text;
  return text;
}

ChatTokens ChatTokensOf(const Tokenizer& tokenizer) {
  ChatTokens tokens;
  if (tokenizer.bos()) tokens.bos = tokenizer.TokenText(*tokenizer.bos());
  if (!tokenizer.end_tokens().empty()) tokens.eos = tokenizer.TokenText(tokenizer.end_tokens().front());
  return tokens;
}

ChatTemplate::ChatTemplate(std::string_view name, std::shared_ptr<const Program> program)
    : name_(name), program_(std::move(program)) {}

std::span<const std::string_view> ChatTemplate::Names() { return kNames; }

absl::StatusOr<ChatTemplate> ChatTemplate::Create(std::string_view source, ChatTokens tokens) {
  TC_ASSIGN_OR_RETURN(JinjaBody body, ParseJinja(source));
  return ChatTemplate("model", std::make_shared<const Program>(Program{std::move(body), std::move(tokens)}));
}

absl::StatusOr<ChatTemplate> ChatTemplate::CreateNamed(std::string_view name, ChatTokens tokens) {
  const auto found = std::ranges::find(kNamed, name, &Named::name);
  if (found == std::end(kNamed)) {
    return NotFound("no chat template is called '{}', there are {}", Printable(name),
                    fmt::join(kNames, ", "));
  }
  TC_ASSIGN_OR_RETURN(ChatTemplate created, Create(found->source, std::move(tokens)));
  created.name_ = found->name;
  return created;
}

absl::StatusOr<ChatTemplate> ChatTemplate::Select(std::string_view choice, std::string_view source,
                                                  ChatTokens tokens) {
  if (choice != "auto") return CreateNamed(choice, std::move(tokens));
  return source.empty() ? CreateNamed("none", std::move(tokens)) : Create(source, std::move(tokens));
}

absl::StatusOr<ChatPrompt> ChatTemplate::Render(std::span<const ChatMessage> messages,
                                                bool add_generation_prompt) const {
  const auto own = [](std::string_view text) { return JinjaText(text, JinjaOrigin::kTemplate); };
  JinjaList list;
  for (const auto& [role, content] : messages) {
    const JinjaOrigin role_origin = IsKnownRole(role) ? JinjaOrigin::kTemplate : JinjaOrigin::kMessage;
    TC_ASSIGN_OR_RETURN(JinjaValue message,
                        JinjaValue::Dict({{own("role"), JinjaText(role, role_origin)},
                                          {own("content"), JinjaText(content, JinjaOrigin::kMessage)}}));
    list.push_back(std::move(message));
  }
  TC_ASSIGN_OR_RETURN(JinjaValue conversation, JinjaValue::List(std::move(list)));
  const JinjaVariables variables = {{"messages", std::move(conversation)},
                                    {"add_generation_prompt", add_generation_prompt},
                                    {"bos_token", own(program_->tokens.bos)},
                                    {"eos_token", own(program_->tokens.eos)}};
  TC_ASSIGN_OR_RETURN(const JinjaText text, RenderJinja(program_->body, variables, JinjaLimits()));
  ChatPrompt prompt;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    end = text.RunEnd(begin);
    prompt.pieces.push_back(
        {text.bytes().substr(begin, end - begin), text.origin(begin) == JinjaOrigin::kTemplate});
  }
  return prompt;
}

absl::StatusOr<std::vector<TokenId>> EncodeChat(const ChatPrompt& prompt, const Tokenizer& tokenizer) {
  std::vector<Tokenizer::Piece> pieces;
  for (const ChatPiece& piece : prompt.pieces) pieces.push_back({piece.text, piece.from_template});
  TC_ASSIGN_OR_RETURN(std::vector<TokenId> ids, tokenizer.EncodePieces(pieces, /*add_bos=*/false));
  if (tokenizer.adds_bos() && (ids.empty() || ids.front() != *tokenizer.bos())) {
    ids.insert(ids.begin(), *tokenizer.bos());
  }
  return ids;
}

}  // namespace thermocline
