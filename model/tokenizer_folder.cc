// CreateTokenizerFromFolder: picks the tokenizer's file and applies what the files beside it say.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "core/mapped_file.h"
#include "model/printable.h"
#include "model/sentencepiece_model.h"
#include "model/strict_json.h"
#include "model/tokenizer.h"
#include "model/tokenizer_hints.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_parts.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostTokenizerBytes = int64_t{128} << 20;

// nullopt when there is no such file.
absl::StatusOr<std::optional<std::string>> ReadIfThere(const std::string& path, int64_t limit_bytes) {
  absl::StatusOr<std::string> text = ReadTextFile(path, limit_bytes);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  TC_RETURN_IF_ERROR(text.status());
  return *std::move(text);
}

// tokenizer.model knows nothing of the tokens that were added behind its own.
absl::Status AppendAddedTokens(const std::vector<AddedToken>& added, SentencePieceModel& model) {
  Vocabulary& vocabulary = model.vocabulary;
  for (const AddedToken& token : added) {
    const auto index = static_cast<size_t>(token.id);
    if (index < vocabulary.texts.size()) {
      if (vocabulary.texts[index] == token.literal) continue;
      return InvalidArgument("{}: id {} is \"{}\", but tokenizer_config.json calls it \"{}\"",
                             vocabulary.source, token.id, Printable(vocabulary.texts[index]),
                             Printable(token.literal));
    }
    if (index != vocabulary.texts.size()) {
      return InvalidArgument("{}: tokenizer_config.json adds id {}, but the next one is {}",
                             vocabulary.source, token.id, vocabulary.texts.size());
    }
    vocabulary.texts.push_back(token.literal);
    vocabulary.types.push_back(token.special ? TokenType::kControl : TokenType::kUserDefined);
    vocabulary.added.push_back(token);
    model.options.scores.push_back(0);
  }
  vocabulary.AddEndTokensBySpelling();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateFromParts(TokenizerParts parts) {
  if (const auto* byte_level = std::get_if<ByteLevelOptions>(&parts.options))
    return CreateByteLevelBpe(std::move(parts.vocabulary), *byte_level);
  return CreateSentencePieceBpe(std::move(parts.vocabulary), std::get<SentencePieceOptions>(parts.options));
}

absl::StatusOr<FolderTokenizer> ReadFolderTokenizer(const std::string& folder, bool scores_first) {
  FolderTokenizer tokenizer;
  TC_ASSIGN_OR_RETURN(tokenizer.hints, ReadTokenizerHints(folder));
  const TokenizerHints& hints = tokenizer.hints;
  const std::string json_path = folder + "/tokenizer.json", model_path = folder + "/tokenizer.model";
  std::optional<std::string> json, bytes;
  if (scores_first) {
    TC_ASSIGN_OR_RETURN(bytes, ReadIfThere(model_path, kMostTokenizerBytes));
  }
  if (!bytes) {
    TC_ASSIGN_OR_RETURN(json, ReadIfThere(json_path, kMostTokenizerBytes));
  }
  if (!json && !bytes) {
    TC_ASSIGN_OR_RETURN(bytes, ReadIfThere(model_path, kMostTokenizerBytes));
  }
  if (json) {
    TC_ASSIGN_OR_RETURN(Json document, ParseStrictJson(*json, json_path));
    tokenizer.document = std::make_shared<const Json>(std::move(document));
    TC_ASSIGN_OR_RETURN(tokenizer.parts, ParseTokenizerJson(*tokenizer.document, json_path, hints));
    return tokenizer;
  }
  if (!bytes) return NotFound("{}: neither tokenizer.json nor tokenizer.model is there", folder);
  TC_ASSIGN_OR_RETURN(SentencePieceModel model, ParseSentencePieceModel(*bytes, model_path));
  TC_RETURN_IF_ERROR(AppendAddedTokens(hints.added, model));
  TC_RETURN_IF_ERROR(ApplyHints(hints, model.vocabulary.adds_bos, model.vocabulary));
  tokenizer.parts = {std::move(model.vocabulary), std::move(model.options)};
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizerFromFolder(const std::string& folder) {
  TC_ASSIGN_OR_RETURN(FolderTokenizer tokenizer, ReadFolderTokenizer(folder));
  return CreateFromParts(std::move(tokenizer.parts));
}

}  // namespace thermocline
