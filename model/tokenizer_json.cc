// Reads tokenizer.json: vocabulary, merges and added tokens of a BPE model.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_json.h"

#include <optional>
#include <utility>

#include "model/byte_level_bpe.h"
#include "model/printable.h"
#include "model/sentencepiece_bpe.h"
#include "model/tokenizer_json_pipeline.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

absl::StatusOr<TokenId> ParseId(const Json& value, const std::string& file, std::string_view name) {
  if (!value.is_number_integer()) {
    return InvalidArgument("{}: id of {} must be an integer, found {}", file, name, value.type_name());
  }
  const bool too_large =
      value.is_number_unsigned() && value.get<uint64_t>() >= static_cast<uint64_t>(kMaxVocabularySize);
  if (too_large || value.get<int64_t>() < 0) {
    return InvalidArgument("{}: id of {} is {}, not in [0, {})", file, name, value.dump(),
                           kMaxVocabularySize);
  }
  return static_cast<TokenId>(value.get<int64_t>());
}

bool IsSet(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && !found->is_null() && *found != "" && *found != 0.0 && *found != false;
}

bool IsTrue(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && *found == true;
}

// Puts `text` at `id`, growing the vocabulary; ids that no token claims stay unused and empty.
absl::Status Place(const std::string& text, TokenId id, TokenType type, Vocabulary& vocabulary) {
  const auto index = static_cast<size_t>(id);
  if (index >= vocabulary.texts.size()) {
    vocabulary.texts.resize(index + 1);
    vocabulary.types.resize(index + 1, TokenType::kUnused);
  }
  std::string& place = vocabulary.texts[index];
  if (!place.empty() && place != text) {
    return InvalidArgument("{}: id {} is given to both \"{}\" and \"{}\"", vocabulary.source, id,
                           Printable(place), Printable(text));
  }
  place = text;
  vocabulary.types[index] = type;
  return absl::OkStatus();
}

absl::Status ParseVocabulary(const Json& model, bool byte_tokens, Vocabulary& vocabulary) {
  const auto vocab = model.find("vocab");
  if (vocab == model.end() || !vocab->is_object()) {
    return InvalidArgument("{}: model.vocab must be an object", vocabulary.source);
  }
  for (const auto& [text, value] : vocab->items()) {
    TC_ASSIGN_OR_RETURN(const TokenId id,
                        ParseId(value, vocabulary.source, fmt::format("\"{}\"", Printable(text))));
    const bool is_byte = byte_tokens && ByteTokenValue(text).has_value();
    const bool taken = static_cast<size_t>(id) < vocabulary.texts.size() && !vocabulary.texts[id].empty();
    if (taken) {
      return InvalidArgument("{}: id {} is given to both \"{}\" and \"{}\"", vocabulary.source, id,
                             Printable(vocabulary.texts[id]), Printable(text));
    }
    TC_RETURN_IF_ERROR(Place(text, id, is_byte ? TokenType::kByte : TokenType::kNormal, vocabulary));
  }
  const auto unknown = model.find("unk_token");
  for (size_t id = 0; unknown != model.end() && unknown->is_string() && id < vocabulary.texts.size(); ++id) {
    if (vocabulary.texts[id] == unknown->get_ref<const std::string&>()) {
      vocabulary.types[id] = TokenType::kUnknown;
    }
  }
  return absl::OkStatus();
}

absl::Status ParseAddedTokens(const Json& document, Vocabulary& vocabulary) {
  const auto list = document.find("added_tokens");
  if (list == document.end() || list->is_null()) return absl::OkStatus();
  if (!list->is_array()) return InvalidArgument("{}: added_tokens must be an array", vocabulary.source);
  for (const Json& entry : *list) {
    const auto id_field = entry.is_object() ? entry.find("id") : entry.end();
    if (!entry.is_object() || id_field == entry.end()) {
      return InvalidArgument("{}: an entry of added_tokens has no id", vocabulary.source);
    }
    TC_ASSIGN_OR_RETURN(const TokenId id, ParseId(*id_field, vocabulary.source, "an added token"));
    TC_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry, id, vocabulary.source));
    const TokenType type = token.special ? TokenType::kControl : TokenType::kUserDefined;
    TC_RETURN_IF_ERROR(Place(token.literal, id, type, vocabulary));
    vocabulary.added.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// Merges borrow from `model`.
absl::StatusOr<std::vector<MergeTable::Pair>> ParseMerges(const Json& model, const std::string& file) {
  const auto list = model.find("merges");
  if (list == model.end() || !list->is_array())
    return InvalidArgument("{}: model.merges must be an array", file);
  std::vector<MergeTable::Pair> merges;
  merges.reserve(list->size());
  for (const Json& merge : *list) {
    const auto index = static_cast<int64_t>(merges.size());
    if (merge.is_string()) {
      TC_ASSIGN_OR_RETURN(const MergeTable::Pair pair,
                          SplitMerge(merge.get_ref<const std::string&>(), file, index));
      merges.push_back(pair);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      merges.emplace_back(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
    } else {
      return InvalidArgument("{}: merge {} is neither \"a b\" nor a pair of strings", file, index);
    }
  }
  return merges;
}

absl::Status CheckModel(const Json& model, const std::string& file, bool byte_level) {
  for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    if (IsSet(model, name)) return Unimplemented("{}: model.{} is not supported", file, name);
  }
  if (byte_level && IsSet(model, "byte_fallback")) {
    return Unimplemented("{}: model.byte_fallback with a ByteLevel pre_tokenizer is not supported", file);
  }
  if (!byte_level && IsTrue(model, "ignore_merges")) {
    return Unimplemented("{}: model.ignore_merges without a ByteLevel pre_tokenizer is not supported", file);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerParts> ParseTokenizerJson(const Json& document, const std::string& file,
                                                  const TokenizerHints& hints) {
  const auto model = document.find("model");
  if (model == document.end() || !model->is_object()) {
    return InvalidArgument("{}: model must be an object", file);
  }
  // Files of the first versions name no type.
  const std::string type = model->contains("type") ? StageType(*model) : "BPE";
  if (type != "BPE") {
    return Unimplemented("{}: model \"{}\" is not supported; only BPE is known", file, Printable(type));
  }
  TC_ASSIGN_OR_RETURN(const TokenizerPipeline pipeline, ParseTokenizerPipeline(document, file));
  TC_RETURN_IF_ERROR(CheckModel(*model, file, pipeline.byte_level));
  Vocabulary vocabulary;
  vocabulary.source = file;
  TC_RETURN_IF_ERROR(ParseVocabulary(*model, IsTrue(*model, "byte_fallback"), vocabulary));
  TC_RETURN_IF_ERROR(ParseAddedTokens(document, vocabulary));
  if (pipeline.leading_token) vocabulary.bos = pipeline.leading_token;
  TC_RETURN_IF_ERROR(ApplyHints(hints, pipeline.leading_token.has_value(), vocabulary));
  TC_ASSIGN_OR_RETURN(std::vector<MergeTable::Pair> merges, ParseMerges(*model, file));
  if (pipeline.byte_level) {
    ByteLevelOptions options;
    options.patterns = pipeline.patterns;
    options.nfc = pipeline.nfc;
    options.ignore_merges = IsTrue(*model, "ignore_merges");
    options.merges = std::move(merges);
    return TokenizerParts{std::move(vocabulary), std::move(options)};
  }
  SentencePieceOptions options;
  options.dummy_prefix = pipeline.dummy_prefix;
  options.merges = std::move(merges);
  return TokenizerParts{std::move(vocabulary), std::move(options)};
}

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateFromTokenizerJson(const Json& document,
                                                                   const std::string& file,
                                                                   const TokenizerHints& hints) {
  TC_ASSIGN_OR_RETURN(TokenizerParts parts, ParseTokenizerJson(document, file, hints));
  return CreateFromParts(std::move(parts));
}

}  // namespace thermocline
