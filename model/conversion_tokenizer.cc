// tokenizer.ggml.* of a Hugging Face folder's tokenizer.
// SPDX-License-Identifier: Apache-2.0
#include <absl/container/flat_hash_map.h>

#include <algorithm>
#include <optional>
#include <set>

#include "model/conversion_metadata.h"
#include "model/pre_tokenizer.h"
#include "model/printable.h"

namespace thermocline {
namespace {

std::string Key(std::string_view name) { return fmt::format("tokenizer.ggml.{}", name); }

// GGUF's name for a pre-tokenizer that our reader follows.
absl::StatusOr<std::string_view> PreTokenizerName(const ByteLevelOptions& options, const std::string& file) {
  using Patterns = std::vector<std::string>;
  const Patterns& patterns = options.patterns;
  if (patterns == Patterns{std::string(Llama3Pattern())} && options.ignore_merges && !options.nfc)
    return "llama-bpe";
  if (options.ignore_merges) return Unimplemented("{}: GGUF has no name for ignore_merges here", file);
  if (patterns == Patterns{std::string(Qwen2Pattern())} && options.nfc) return "qwen2";
  if (options.nfc) return Unimplemented("{}: GGUF has no name for the normalizer NFC here", file);
  if (patterns == Patterns{std::string(Gpt2Pattern())}) return "gpt-2";
  if (patterns == Patterns{std::string(SingleDigitPattern()), std::string(Gpt2Pattern())}) return "smollm";
  return Unimplemented(
      "{}: GGUF has no name for this pre-tokenizer; known are those of SmolLM2, Llama 3, Qwen2 and GPT-2",
      file);
}

// Scores that rank merges as their list does: a token's is less by one for each token that is made earlier.
// InvalidArgument where the list makes a token, then others, then that token again, which no score can say.
absl::StatusOr<std::vector<float>> ScoresOf(const TokenizerParts& parts,
                                            const std::vector<MergeTable::Pair>& merges) {
  const Vocabulary& vocabulary = parts.vocabulary;
  absl::flat_hash_map<std::string, size_t> ids;
  for (size_t id = 0; id < vocabulary.texts.size(); ++id) ids.try_emplace(vocabulary.texts[id], id);
  std::vector<float> scores(vocabulary.texts.size(), -1e9f);  // of what is never made
  std::optional<size_t> last;
  float score = 0;
  for (const auto& [left, right] : merges) {
    const auto made = ids.find(fmt::format("{}{}", left, right));
    if (made == ids.end()) continue;  // the tokenizer refuses such a list
    if (made->second == last) continue;
    last = made->second;
    if (scores[*last] != -1e9f) {
      return Unimplemented("{}: merges to \"{}\" are not in a row, which scores cannot say",
                           vocabulary.source, Printable(vocabulary.texts[*last]));
    }
    scores[*last] = score;
    score -= 1;
  }
  return scores;
}

void AddIds(const FolderTokenizer& tokenizer, GgufHeader& header) {
  const Vocabulary& vocabulary = tokenizer.parts.vocabulary;
  const auto add = [&](std::string_view name, int64_t id) {
    header.AddUint(Key(name), static_cast<uint32_t>(id));
  };
  if (vocabulary.bos) add("bos_token_id", *vocabulary.bos);
  // The one that the files name comes first, others that no reader would find by their spelling behind it.
  std::vector<TokenId> ends = vocabulary.end_tokens;
  if (const std::optional<std::string>& named = tokenizer.hints.eos_token) {
    std::ranges::stable_partition(
        ends, [&](TokenId id) { return vocabulary.texts[static_cast<size_t>(id)] == *named; });
  }
  Vocabulary spelled = vocabulary;
  spelled.end_tokens.clear();
  spelled.AddEndTokensBySpelling();
  const std::set<TokenId> found(spelled.end_tokens.begin(), spelled.end_tokens.end());
  if (!ends.empty()) {
    add("eos_token_id", ends.front());
    ends.erase(ends.begin());
  }
  std::erase_if(ends, [&](TokenId id) { return found.contains(id); });
  for (size_t i = 0; i < std::min<size_t>(ends.size(), 2); ++i)
    add(i == 0 ? "eot_token_id" : "eom_token_id", ends[i]);
  for (size_t id = 0; id < vocabulary.types.size(); ++id) {
    if (vocabulary.types[id] != TokenType::kUnknown) continue;
    add("unknown_token_id", static_cast<int64_t>(id));
    break;
  }
  const std::optional<int64_t> pad = tokenizer.hints.pad_id;
  if (pad && *pad >= 0 && *pad < std::ssize(vocabulary.texts)) add("padding_token_id", *pad);
  header.AddBool(Key("add_bos_token"), vocabulary.adds_bos).AddBool(Key("add_eos_token"), false);
}

}  // namespace

absl::Status AddTokenizerKeys(const FolderTokenizer& tokenizer, int64_t n_vocab, GgufHeader& header) {
  const TokenizerParts& parts = tokenizer.parts;
  std::vector<std::string> texts = parts.vocabulary.texts;
  std::vector<int32_t> types;
  for (const TokenType type : parts.vocabulary.types) types.push_back(static_cast<int32_t>(type));
  texts.resize(std::max(texts.size(), static_cast<size_t>(n_vocab)));
  for (size_t id = 0; id < texts.size(); ++id) {
    if (texts[id].empty()) texts[id] = fmt::format("[PAD{}]", id);
  }
  types.resize(texts.size(), static_cast<int32_t>(TokenType::kUnused));
  if (const auto* options = std::get_if<ByteLevelOptions>(&parts.options)) {
    TC_ASSIGN_OR_RETURN(const std::string_view pre, PreTokenizerName(*options, parts.vocabulary.source));
    std::vector<std::string> merges;
    for (const auto& [left, right] : options->merges) merges.push_back(fmt::format("{} {}", left, right));
    header.AddString(Key("model"), "gpt2")
        .AddString(Key("pre"), pre)
        .AddStrings(Key("tokens"), texts)
        .AddInts(Key("token_type"), types)
        .AddStrings(Key("merges"), merges);
  } else {
    const auto& sentencepiece = std::get<SentencePieceOptions>(parts.options);
    std::vector<float> scores = sentencepiece.scores;
    if (scores.empty()) {
      TC_ASSIGN_OR_RETURN(scores, ScoresOf(parts, sentencepiece.merges));
    }
    scores.resize(texts.size(), -1e9f);
    header.AddString(Key("model"), "llama")
        .AddString(Key("pre"), "default")
        .AddStrings(Key("tokens"), texts)
        .AddFloats(Key("scores"), scores)
        .AddInts(Key("token_type"), types)
        .AddBool(Key("add_space_prefix"),
                 sentencepiece.dummy_prefix != SentencePieceOptions::DummyPrefix::kNone);
    if (sentencepiece.remove_extra_whitespaces) header.AddBool(Key("remove_extra_whitespaces"), true);
  }
  AddIds(tokenizer, header);
  return absl::OkStatus();
}

}  // namespace thermocline
