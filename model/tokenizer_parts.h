// TokenizerParts: a tokenizer taken apart, as it is read from a file and written to another.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <variant>

#include "core/status.h"
#include "model/byte_level_bpe.h"
#include "model/sentencepiece_bpe.h"
#include "model/tokenizer_hints.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {

struct TokenizerParts {
  Vocabulary vocabulary;
  std::variant<SentencePieceOptions, ByteLevelOptions> options;  // merges are borrowed
};

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateFromParts(TokenizerParts parts);

// The tokenizer of a Hugging Face folder.
struct FolderTokenizer {
  std::shared_ptr<const nlohmann::json> document;  // what the merges borrow from
  TokenizerHints hints;
  TokenizerParts parts;
};

// From tokenizer.json, else tokenizer.model; the other way round where `scores_first`, since only the latter
// has scores. Errors as of CreateTokenizerFromFolder.
absl::StatusOr<FolderTokenizer> ReadFolderTokenizer(const std::string& folder, bool scores_first = false);

}  // namespace thermocline
