// Reads config.json, generation_config.json and tokenizer_config.json.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_hints.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/mapped_file.h"
#include "model/printable.h"
#include "model/strict_json.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMostConfigBytes = int64_t{16} << 20;

bool IsTrue(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && *found == true;
}

// An empty object when there is no such file.
absl::StatusOr<Json> ReadConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadTextFile(path, kMostConfigBytes);
  if (absl::IsNotFound(text.status())) return Json::object();
  TC_RETURN_IF_ERROR(text.status());
  return ParseStrictJson(*text, path);
}

absl::StatusOr<int64_t> TokenNumber(const Json& value, const std::string& path, std::string_view name) {
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > INT32_MAX)) {
    return InvalidArgument("{}: {} must be a token id", path, name);
  }
  return value.get<int64_t>();
}

// One id or a list of them.
absl::StatusOr<std::vector<int64_t>> TokenNumbers(const Json& config, const std::string& path,
                                                  const char* name) {
  std::vector<int64_t> ids;
  const auto found = config.find(name);
  if (found == config.end() || found->is_null()) return ids;
  if (!found->is_array()) {
    TC_ASSIGN_OR_RETURN(const int64_t id, TokenNumber(*found, path, name));
    return std::vector<int64_t>{id};
  }
  for (const Json& value : *found) {
    TC_ASSIGN_OR_RETURN(const int64_t id, TokenNumber(value, path, name));
    ids.push_back(id);
  }
  return ids;
}

// A token given as its text, or as an object with `content`.
absl::StatusOr<std::optional<std::string>> TokenName(const Json& config, const std::string& path,
                                                     const char* name) {
  const auto found = config.find(name);
  if (found == config.end() || found->is_null()) return std::nullopt;
  const Json* text = &*found;
  if (found->is_object() && found->contains("content")) text = &(*found)["content"];
  if (!text->is_string()) return InvalidArgument("{}: {} must be a token's text", path, name);
  return text->get<std::string>();
}

absl::StatusOr<std::vector<AddedToken>> AddedTokensDecoder(const Json& config, const std::string& path) {
  std::vector<AddedToken> added;
  const auto found = config.find("added_tokens_decoder");
  if (found == config.end() || found->is_null()) return added;
  if (!found->is_object()) return InvalidArgument("{}: added_tokens_decoder must be an object", path);
  for (const auto& [key, entry] : found->items()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= kMaxVocabularySize) {
      return InvalidArgument("{}: added_tokens_decoder has the key \"{}\", not an id in [0, {})", path,
                             Printable(key), kMaxVocabularySize);
    }
    TC_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(entry, id, path));
    added.push_back(std::move(token));
  }
  std::sort(added.begin(), added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return added;
}

absl::StatusOr<TokenId> IdOf(const std::string& text, std::string_view name, const Vocabulary& vocabulary) {
  const auto found = std::find(vocabulary.texts.begin(), vocabulary.texts.end(), text);
  if (found == vocabulary.texts.end()) {
    return NotFound("{}: {} \"{}\" is not in the vocabulary", vocabulary.source, name, Printable(text));
  }
  return static_cast<TokenId>(found - vocabulary.texts.begin());
}

absl::StatusOr<TokenId> CheckedId(int64_t id, std::string_view name, const Vocabulary& vocabulary) {
  const auto size = static_cast<int64_t>(vocabulary.texts.size());
  if (id >= 0 && id < size) return static_cast<TokenId>(id);
  return InvalidArgument("{}: {} is {}, which is not in [0, {})", vocabulary.source, name, id, size);
}

}  // namespace

absl::StatusOr<AddedToken> ParseAddedToken(const Json& entry, int64_t id, const std::string& file) {
  const auto content = entry.is_object() ? entry.find("content") : entry.end();
  if (!entry.is_object() || content == entry.end() || !content->is_string() ||
      content->get_ref<const std::string&>().empty()) {
    return InvalidArgument("{}: added token {} has no content", file, id);
  }
  const auto& literal = content->get_ref<const std::string&>();
  if (IsTrue(entry, "single_word")) {
    return Unimplemented("{}: added token \"{}\" with single_word is not supported", file,
                         Printable(literal));
  }
  return AddedToken{static_cast<TokenId>(id), literal, IsTrue(entry, "special"), IsTrue(entry, "lstrip"),
                    IsTrue(entry, "rstrip")};
}

absl::StatusOr<TokenizerHints> ReadTokenizerHints(const std::string& folder) {
  TokenizerHints hints;
  for (const char* name : {"config.json", "generation_config.json"}) {
    const std::string path = folder + "/" + name;
    TC_ASSIGN_OR_RETURN(const Json config, ReadConfig(path));
    TC_ASSIGN_OR_RETURN(const std::vector<int64_t> bos, TokenNumbers(config, path, "bos_token_id"));
    if (!bos.empty() && !hints.bos_id) hints.bos_id = bos.front();
    TC_ASSIGN_OR_RETURN(const std::vector<int64_t> pad, TokenNumbers(config, path, "pad_token_id"));
    if (!pad.empty() && !hints.pad_id) hints.pad_id = pad.front();
    TC_ASSIGN_OR_RETURN(const std::vector<int64_t> ends, TokenNumbers(config, path, "eos_token_id"));
    hints.end_ids.insert(hints.end_ids.end(), ends.begin(), ends.end());
  }
  const std::string path = folder + "/tokenizer_config.json";
  TC_ASSIGN_OR_RETURN(const Json config, ReadConfig(path));
  TC_ASSIGN_OR_RETURN(hints.bos_token, TokenName(config, path, "bos_token"));
  TC_ASSIGN_OR_RETURN(hints.eos_token, TokenName(config, path, "eos_token"));
  TC_ASSIGN_OR_RETURN(hints.added, AddedTokensDecoder(config, path));
  if (const auto flag = config.find("add_bos_token"); flag != config.end() && !flag->is_null()) {
    if (!flag->is_boolean()) return InvalidArgument("{}: add_bos_token must be a boolean", path);
    hints.adds_bos = flag->get<bool>();
  }
  return hints;
}

absl::Status ApplyHints(const TokenizerHints& hints, bool file_adds_bos, Vocabulary& vocabulary) {
  // What the tokenizer's file itself puts in front of a text counts most, then the tokenizer's configuration.
  if (!vocabulary.bos && hints.bos_token) {
    TC_ASSIGN_OR_RETURN(vocabulary.bos, IdOf(*hints.bos_token, "bos_token", vocabulary));
  }
  if (!vocabulary.bos && hints.bos_id) {
    TC_ASSIGN_OR_RETURN(vocabulary.bos, CheckedId(*hints.bos_id, "bos_token_id", vocabulary));
  }
  if (hints.eos_token) {
    TC_ASSIGN_OR_RETURN(const TokenId id, IdOf(*hints.eos_token, "eos_token", vocabulary));
    vocabulary.AddEndToken(id);
  }
  for (int64_t end_id : hints.end_ids) {
    TC_ASSIGN_OR_RETURN(const TokenId id, CheckedId(end_id, "eos_token_id", vocabulary));
    vocabulary.AddEndToken(id);
  }
  vocabulary.AddEndTokensBySpelling();
  vocabulary.adds_bos = hints.adds_bos.value_or(file_adds_bos);
  return absl::OkStatus();
}

}  // namespace thermocline
