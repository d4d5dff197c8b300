// ChatTemplate: a conversation written down the way a model was trained on it.
// SPDX-License-Identifier: Apache-2.0
//
// Templates are Jinja (the subset of model/jinja_parser.h), as models bring them along, or one of a few named
// ones. What a template itself says may name special tokens, "<|im_start|>"; what users say may not. So the
// result says of every byte where it comes from, and EncodeChat makes special tokens of the template's bytes
// only, however the template took the users' text apart and put it together again.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"

namespace thermocline {

struct ChatMessage {
  std::string role;     // "system", "user", "assistant", or what else the template knows
  std::string content;  // any bytes
};

struct ChatPiece {
  std::string text;
  bool from_template = false;  // false: of the messages
};

// A conversation as text: the pieces in order, none empty, neighbours of different origin.
struct ChatPrompt {
  std::vector<ChatPiece> pieces;
  std::string Text() const;
};

// What templates call bos_token and eos_token; empty where the model has none.
struct ChatTokens {
  std::string bos;
  std::string eos;
};

// The spellings of the tokenizer's beginning-of-text token and of its first end token.
ChatTokens ChatTokensOf(const Tokenizer& tokenizer);

// Immutable and safe to share between threads; copies share the parsed template.
class ChatTemplate {
 public:
  // A template's own source, at most 256 KiB. InvalidArgument with the line where it is not in the subset.
  static absl::StatusOr<ChatTemplate> Create(std::string_view source, ChatTokens tokens);

  // One of Names(): "chatml", "llama2", "llama3", "gemma", "none" (the contents alone, a line each).
  // NotFound names those that there are.
  static absl::StatusOr<ChatTemplate> CreateNamed(std::string_view name, ChatTokens tokens);
  static std::span<const std::string_view> Names();

  // What `serve --chat-template` says: a name, or "auto": the model's own source, or "none" where `source` is
  // empty.
  static absl::StatusOr<ChatTemplate> Select(std::string_view choice, std::string_view source,
                                             ChatTokens tokens);

  // "chatml" and so on; "model" where the source was given.
  std::string_view name() const { return name_; }

  // Writes the conversation down. `add_generation_prompt`: end with the beginning of an answer. One-line
  // messages with the template's line; InvalidArgument where the template refuses the messages (its
  // raise_exception) or a limit on work or output is passed, FailedPrecondition where it asks for something
  // that is not there or cannot be done.
  absl::StatusOr<ChatPrompt> Render(std::span<const ChatMessage> messages, bool add_generation_prompt) const;

 private:
  struct Program;
  ChatTemplate(std::string_view name, std::shared_ptr<const Program> program);

  std::string_view name_;  // a literal
  std::shared_ptr<const Program> program_;
};

// The prompt's tokens. Special tokens come from the template's bytes alone. A beginning-of-text token comes
// first where the model asks for one, also where the template wrote none, and never twice. Errors as of
// Tokenizer::Encode.
absl::StatusOr<std::vector<TokenId>> EncodeChat(const ChatPrompt& prompt, const Tokenizer& tokenizer);

}  // namespace thermocline
