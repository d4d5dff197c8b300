// The stages around the model in a tokenizer.json: normalizer, pre_tokenizer, post_processor, decoder.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/sentencepiece_bpe.h"
#include "model/tokenizer.h"

namespace thermocline {

struct TokenizerPipeline {
  bool byte_level = false;            // else SentencePiece's form
  std::vector<std::string> patterns;  // byte level: of the pre-tokenizer, in turn
  bool nfc = false;                   // byte level
  // SentencePiece's form. It always escapes spaces.
  SentencePieceOptions::DummyPrefix dummy_prefix = SentencePieceOptions::DummyPrefix::kNone;
  std::optional<TokenId> leading_token;  // what the post-processor puts in front of a text
};

// Unimplemented naming file, stage and type for anything that is not known to be followed exactly.
absl::StatusOr<TokenizerPipeline> ParseTokenizerPipeline(const nlohmann::json& document,
                                                         const std::string& file);

// The "type" of a stage, "" for null and for objects without one.
std::string StageType(const nlohmann::json& stage);

}  // namespace thermocline
