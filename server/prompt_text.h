// Text to a prompt's tokens and tokens to text, the same for every protocol.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"

namespace thermocline {

// FieldError of `field` for empty text and for what the tokenizer cannot spell. The beginning-of-text token
// comes first where the tokenizer's model asks for one.
absl::StatusOr<std::vector<TokenId>> EncodePrompt(std::string_view field, std::string_view text,
                                                  bool parse_special, const Tokenizer& tokenizer);

// The tokens' text, always valid UTF-8: other bytes come as U+FFFD, control tokens give nothing. FieldError
// of `field` for an id out of range.
absl::StatusOr<std::string> DecodeToText(std::string_view field, std::span<const TokenId> ids,
                                         const Tokenizer& tokenizer);

}  // namespace thermocline
