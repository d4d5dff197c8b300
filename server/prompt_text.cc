// Text to a prompt's tokens and tokens to text.
// SPDX-License-Identifier: Apache-2.0
#include "server/prompt_text.h"

#include "scheduler/request.h"

namespace thermocline {

absl::StatusOr<std::vector<TokenId>> EncodePrompt(std::string_view field, std::string_view text,
                                                  bool parse_special, const Tokenizer& tokenizer) {
  if (text.empty()) return FieldError(field, "text is empty");
  auto encoded = tokenizer.Encode(text, {.add_bos = true, .parse_special = parse_special});
  if (!encoded.ok()) return FieldError(field, MessageOf(encoded.status()));
  return encoded;
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
