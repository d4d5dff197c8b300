// TokenizerHints: what the JSON files beside a tokenizer say about its special tokens.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/status.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {

// What config.json, generation_config.json and tokenizer_config.json say about a tokenizer. All of them may
// be missing; null counts as not said.
struct TokenizerHints {
  std::optional<std::string> bos_token;  // tokenizer_config.json
  std::optional<std::string> eos_token;  // tokenizer_config.json
  std::optional<bool> adds_bos;          // tokenizer_config.json, add_bos_token
  std::optional<int64_t> bos_id;         // config.json, else generation_config.json
  std::optional<int64_t> pad_id;         // config.json, else generation_config.json
  std::vector<int64_t> end_ids;          // config.json and generation_config.json
  std::vector<AddedToken> added;         // tokenizer_config.json, added_tokens_decoder
};

// InvalidArgument naming file and field where a field has the wrong type.
absl::StatusOr<TokenizerHints> ReadTokenizerHints(const std::string& folder);

// Settles BOS, end tokens and whether a BOS is added. `file_adds_bos`: what the tokenizer's own file says;
// an explicit add_bos_token overrides it. NotFound for a token that is named but not in the vocabulary,
// InvalidArgument for an id out of range.
absl::Status ApplyHints(const TokenizerHints& hints, bool file_adds_bos, Vocabulary& vocabulary);

// One entry of added_tokens or added_tokens_decoder. Unimplemented for single_word.
absl::StatusOr<AddedToken> ParseAddedToken(const nlohmann::json& entry, int64_t id, const std::string& file);

}  // namespace thermocline
