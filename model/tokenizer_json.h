// Reader of tokenizer.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "model/tokenizer.h"
#include "model/tokenizer_hints.h"
#include "model/tokenizer_parts.h"

namespace thermocline {

// What CreateFromTokenizerJson makes the tokenizer of; its merges borrow from `document`.
absl::StatusOr<TokenizerParts> ParseTokenizerJson(const nlohmann::json& document, const std::string& file,
                                                  const TokenizerHints& hints);

// `document` is a tokenizer.json, `file` its name for messages. Unimplemented naming the part where a model,
// normalizer, pre-tokenizer, post-processor or decoder is not known.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateFromTokenizerJson(const nlohmann::json& document,
                                                                   const std::string& file,
                                                                   const TokenizerHints& hints);

}  // namespace thermocline
