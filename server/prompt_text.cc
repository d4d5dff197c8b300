// Text to a prompt's tokens and tokens to text.
// SPDX-License-Identifier: Apache-2.0
#include "server/prompt_text.h"

#include <algorithm>
#include <array>

#include "model/printable.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

constexpr size_t kMostMessages = 4096;
constexpr std::array<std::string_view, 4> kRoles = {"system", "developer", "user", "assistant"};

}  // namespace

absl::StatusOr<std::vector<TokenId>> EncodePrompt(std::string_view field, std::string_view text,
                                                  bool parse_special, const Tokenizer& tokenizer) {
  if (text.empty()) return FieldError(field, "text is empty");
  auto encoded = tokenizer.Encode(text, {.add_bos = true, .parse_special = parse_special});
  if (!encoded.ok()) return FieldError(field, MessageOf(encoded.status()));
  return encoded;
}

absl::Status CheckMessageCount(std::string_view field, size_t n_messages) {
  if (n_messages == 0) return FieldError(field, "is empty");
  if (n_messages <= kMostMessages) return absl::OkStatus();
  return FieldError(field, fmt::format("has {} messages, the limit is {}", n_messages, kMostMessages));
}

absl::StatusOr<std::string> ToRole(std::string_view field, std::string_view role) {
  if (std::ranges::find(kRoles, role) == kRoles.end()) {
    return FieldError(field,
                      fmt::format("is \"{}\", known are {}", Printable(role), fmt::join(kRoles, ", ")));
  }
  // The newer name of the same role.
  return std::string(role == "developer" ? "system" : role);
}

absl::StatusOr<std::vector<TokenId>> EncodeConversation(std::string_view field,
                                                        std::span<const ChatMessage> messages,
                                                        bool add_generation_prompt,
                                                        const ChatTemplate& chat_template,
                                                        const Tokenizer& tokenizer) {
  const absl::StatusOr<ChatPrompt> prompt = chat_template.Render(messages, add_generation_prompt);
  if (absl::IsInvalidArgument(prompt.status())) return FieldError(field, MessageOf(prompt.status()));
  if (!prompt.ok()) return prompt.status();
  auto tokens = EncodeChat(*prompt, tokenizer);
  if (!tokens.ok()) return FieldError(field, MessageOf(tokens.status()));
  return tokens;
}

absl::StatusOr<std::string> DecodeToText(std::string_view field, std::span<const TokenId> ids,
                                         const Tokenizer& tokenizer) {
  // The decoder rather than Tokenizer::Decode, which gives any bytes.
  IncrementalDecoder decoder(tokenizer, /*at_start=*/true);
  std::string text;
  for (const TokenId id : ids) {
    if (id < 0 || id >= tokenizer.vocabulary_size()) {
      return FieldError(field, fmt::format("{} is not in [0, {})", id, tokenizer.vocabulary_size()));
    }
    text += decoder.Push(id);
  }
  return text + decoder.Flush();
}

}  // namespace thermocline
