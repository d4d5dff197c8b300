// CreateTokenizer: from the tokenizer.ggml.* keys of a GGUF file.
// SPDX-License-Identifier: Apache-2.0

#include <optional>
#include <string>
#include <vector>

#include "model/byte_level_bpe.h"
#include "model/gguf_file.h"
#include "model/pre_tokenizer.h"
#include "model/printable.h"
#include "model/sentencepiece_bpe.h"
#include "model/tokenizer.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {
namespace {

constexpr char kPrefix[] = "tokenizer.ggml.";

std::string Key(std::string_view name) { return kPrefix + std::string(name); }

absl::StatusOr<bool> BoolOr(const GgufMetadata& metadata, std::string_view name, bool fallback) {
  if (!metadata.Has(Key(name))) return fallback;
  return metadata.Bool(Key(name));
}

absl::StatusOr<std::optional<TokenId>> OptionalId(const GgufMetadata& metadata, std::string_view name,
                                                  int64_t size) {
  if (!metadata.Has(Key(name))) return std::nullopt;
  TC_ASSIGN_OR_RETURN(const uint64_t id, metadata.Uint(Key(name)));
  if (id >= static_cast<uint64_t>(size)) {
    return InvalidArgument("{}: {} is {}, which is not in [0, {})", metadata.file(), Key(name), id, size);
  }
  return static_cast<TokenId>(id);
}

// Tokens and types. Where a file gives no types, all tokens are normal ones.
absl::Status ReadTokens(const GgufMetadata& metadata, Vocabulary& vocabulary) {
  TC_ASSIGN_OR_RETURN(const std::vector<std::string_view>* tokens, metadata.Strings(Key("tokens")));
  vocabulary.texts.assign(tokens->begin(), tokens->end());
  const auto size = static_cast<int64_t>(tokens->size());
  vocabulary.types.assign(size, TokenType::kNormal);
  if (!metadata.Has(Key("token_type"))) return absl::OkStatus();
  TC_ASSIGN_OR_RETURN(const std::vector<int64_t> types, metadata.Ints(Key("token_type")));
  if (static_cast<int64_t>(types.size()) != size) {
    return InvalidArgument("{}: {} has {} values for {} tokens", metadata.file(), Key("token_type"),
                           types.size(), size);
  }
  const std::string source = metadata.file() + ": " + Key("token_type");
  for (int64_t id = 0; id < size; ++id) {
    TC_ASSIGN_OR_RETURN(vocabulary.types[id], TokenTypeFromNumber(types[id], source, id));
  }
  return absl::OkStatus();
}

// `default_bos` and `default_eos` are the ids that a kind of tokenizer has where the file is silent, as long
// as they are control tokens.
absl::Status ReadSpecialTokens(const GgufMetadata& metadata, bool adds_bos_by_default,
                               std::optional<TokenId> default_bos, std::optional<TokenId> default_eos,
                               Vocabulary& vocabulary) {
  const auto size = static_cast<int64_t>(vocabulary.texts.size());
  auto control = [&](std::optional<TokenId> id) -> std::optional<TokenId> {
    if (!id || *id >= size || vocabulary.types[*id] != TokenType::kControl) return std::nullopt;
    return id;
  };
  TC_ASSIGN_OR_RETURN(vocabulary.bos, OptionalId(metadata, "bos_token_id", size));
  if (!vocabulary.bos) vocabulary.bos = control(default_bos);
  bool has_eos = false;
  for (std::string_view name : {"eos_token_id", "eot_token_id", "eom_token_id"}) {
    TC_ASSIGN_OR_RETURN(const std::optional<TokenId> id, OptionalId(metadata, name, size));
    if (id) vocabulary.AddEndToken(*id);
    has_eos = has_eos || (id && name == "eos_token_id");
  }
  if (const std::optional<TokenId> eos = control(default_eos); eos && !has_eos) vocabulary.AddEndToken(*eos);
  vocabulary.AddEndTokensBySpelling();
  TC_ASSIGN_OR_RETURN(vocabulary.adds_bos,
                      BoolOr(metadata, "add_bos_token", adds_bos_by_default && vocabulary.bos.has_value()));
  TC_ASSIGN_OR_RETURN(const bool adds_eos, BoolOr(metadata, "add_eos_token", false));
  if (adds_eos) return Unimplemented("{}: {} true", metadata.file(), Key("add_eos_token"));
  return absl::OkStatus();
}

void AddLiterals(TokenType type, bool special, Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.texts.size(); ++id) {
    if (vocabulary.types[id] != type || vocabulary.texts[id].empty()) continue;
    vocabulary.added.push_back({static_cast<TokenId>(id), vocabulary.texts[id], special});
  }
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateLlama(const GgufMetadata& metadata, Vocabulary vocabulary) {
  TC_RETURN_IF_ERROR(ReadSpecialTokens(metadata, /*adds_bos_by_default=*/true, 1, 2, vocabulary));
  AddLiterals(TokenType::kControl, /*special=*/true, vocabulary);
  AddLiterals(TokenType::kUnknown, /*special=*/true, vocabulary);
  const std::string charsmap = Key("precompiled_charsmap");
  if (metadata.Has(charsmap)) {
    return Unimplemented("{}: {}; only identity normalisation is known", metadata.file(), charsmap);
  }
  SentencePieceOptions options;
  options.user_defined_with_plain_spaces = true;
  TC_ASSIGN_OR_RETURN(options.scores, metadata.Floats(Key("scores")));
  if (options.scores.size() != vocabulary.texts.size()) {
    return InvalidArgument("{}: {} has {} values for {} tokens", metadata.file(), Key("scores"),
                           options.scores.size(), vocabulary.texts.size());
  }
  TC_ASSIGN_OR_RETURN(const bool prefix, BoolOr(metadata, "add_space_prefix", true));
  options.dummy_prefix =
      prefix ? SentencePieceOptions::DummyPrefix::kEachFragment : SentencePieceOptions::DummyPrefix::kNone;
  TC_ASSIGN_OR_RETURN(options.remove_extra_whitespaces, BoolOr(metadata, "remove_extra_whitespaces", false));
  return CreateSentencePieceBpe(std::move(vocabulary), options);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateGpt2(const GgufMetadata& metadata, Vocabulary vocabulary) {
  TC_ASSIGN_OR_RETURN(const std::string_view pre, metadata.String(Key("pre")));
  ByteLevelOptions options;
  bool adds_bos = false;
  if (pre == "smollm") {
    options.patterns = {std::string(SingleDigitPattern()), std::string(Gpt2Pattern())};
  } else if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3") {
    options.patterns = {std::string(Llama3Pattern())};
    options.ignore_merges = true;
    adds_bos = true;
  } else if (pre == "qwen2") {
    options.patterns = {std::string(Qwen2Pattern())};
    options.nfc =
        true;  // not said in the file, but part of the tokenizer that these models were trained with
  } else if (pre == "gpt-2" || pre == "default") {
    options.patterns = {std::string(Gpt2Pattern())};
  } else {
    return Unimplemented(
        "{}: {} \"{}\"; known are smollm, llama-bpe, llama3, llama-v3, qwen2, gpt-2, default",
        metadata.file(), Key("pre"), Printable(pre));
  }
  TC_RETURN_IF_ERROR(ReadSpecialTokens(metadata, adds_bos, std::nullopt, std::nullopt, vocabulary));
  AddLiterals(TokenType::kControl, /*special=*/true, vocabulary);
  AddLiterals(TokenType::kUnknown, /*special=*/true, vocabulary);
  AddLiterals(TokenType::kUserDefined, /*special=*/false, vocabulary);
  TC_ASSIGN_OR_RETURN(const std::vector<std::string_view>* merges, metadata.Strings(Key("merges")));
  const std::string source = metadata.file() + ": " + Key("merges");
  options.merges.reserve(merges->size());
  for (std::string_view merge : *merges) {
    TC_ASSIGN_OR_RETURN(const MergeTable::Pair pair,
                        SplitMerge(merge, source, static_cast<int64_t>(options.merges.size())));
    options.merges.push_back(pair);
  }
  return CreateByteLevelBpe(std::move(vocabulary), options);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizer(const GgufMetadata& metadata) {
  TC_ASSIGN_OR_RETURN(const std::string_view model, metadata.String(Key("model")));
  if (model == "no_vocab") return NotFound("{}: the file has no tokenizer", metadata.file());
  if (model != "llama" && model != "gpt2") {
    return Unimplemented("{}: {} \"{}\"; known are llama (SentencePiece BPE) and gpt2 (byte-level BPE)",
                         metadata.file(), Key("model"), Printable(model));
  }
  Vocabulary vocabulary;
  vocabulary.source = metadata.file();
  TC_RETURN_IF_ERROR(ReadTokens(metadata, vocabulary));
  if (model == "llama") return CreateLlama(metadata, std::move(vocabulary));
  return CreateGpt2(metadata, std::move(vocabulary));
}

}  // namespace thermocline
