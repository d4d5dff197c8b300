// SentencePiece BPE: normalisation, merging by score or by rank, byte fallback.
// SPDX-License-Identifier: Apache-2.0
#include "model/sentencepiece_bpe.h"

#include <absl/container/flat_hash_map.h>
#include <absl/strings/str_replace.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>

#include "model/printable.h"
#include "model/tokenizer_base.h"

namespace thermocline {
namespace {

using DummyPrefix = SentencePieceOptions::DummyPrefix;

// Dense ranks: the best score has rank 0, equal scores share theirs.
absl::StatusOr<std::vector<uint32_t>> RanksOfScores(const std::vector<float>& scores,
                                                    std::string_view source) {
  for (size_t id = 0; id < scores.size(); ++id) {
    if (!std::isfinite(scores[id])) return InvalidArgument("{}: score of token {} is not finite", source, id);
  }
  std::vector<float> sorted = scores;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  std::vector<uint32_t> ranks(scores.size());
  for (size_t id = 0; id < scores.size(); ++id) {
    const auto place = std::lower_bound(sorted.begin(), sorted.end(), scores[id], std::greater<>());
    ranks[id] = static_cast<uint32_t>(place - sorted.begin());
  }
  return ranks;
}

std::string CollapseSpaces(std::string_view text) {
  std::string collapsed;
  for (char c : text) {
    if (c == ' ' && (collapsed.empty() || collapsed.back() == ' ')) continue;
    collapsed.push_back(c);
  }
  if (collapsed.ends_with(' ')) collapsed.pop_back();
  return collapsed;
}

class SentencePieceBpe final : public TokenizerBase {
 public:
  SentencePieceBpe(Vocabulary checked, std::vector<std::string> token_bytes,
                   const SentencePieceOptions& options, std::vector<uint32_t> ranks,
                   std::optional<MergeTable> merges)
      : TokenizerBase(std::move(checked), std::move(token_bytes)),
        dummy_prefix_(options.dummy_prefix),
        remove_extra_whitespaces_(options.remove_extra_whitespaces),
        ranks_(std::move(ranks)),
        merges_(std::move(merges)) {
    byte_tokens_.fill(kNoToken);
    for (size_t i = 0; i < bytes().size(); ++i) {
      const auto id = static_cast<TokenId>(i);
      const std::string& spelling = bytes()[i];
      const TokenType type = vocabulary().types[i];
      const bool plain_space = vocabulary().texts[i].find(' ') != std::string::npos;
      if (plain_space && !(options.user_defined_with_plain_spaces && type == TokenType::kUserDefined))
        continue;
      switch (type) {
        case TokenType::kByte: {
          TokenId& token = byte_tokens_[static_cast<uint8_t>(spelling.front())];
          if (token == kNoToken) token = id;
          break;
        }
        case TokenType::kUserDefined:
          if (!spelling.empty()) user_defined_.Add(spelling, id);
          [[fallthrough]];
        case TokenType::kNormal:
        case TokenType::kUnused:
          ids_.try_emplace(spelling, id);
          longest_piece_ = std::max(longest_piece_, spelling.size());
          break;
        case TokenType::kUnknown:
        case TokenType::kControl:
          break;
      }
    }
  }

  bool strips_leading_space() const override { return dummy_prefix_ != DummyPrefix::kNone; }
  std::string_view kind() const override { return "sentencepiece-bpe"; }

 private:
  // How an unused token was put together, to take it apart again.
  using Splits = absl::flat_hash_map<TokenId, uint32_t>;  // id -> length of the left part

  absl::Status EncodeFragment(std::string_view fragment, bool at_start,
                              std::vector<TokenId>& ids) const override {
    const std::string text = Normalize(fragment, at_start);
    std::vector<Symbol> symbols = Symbols(text);
    Splits splits;
    if (merges_) {
      MergeSymbols(symbols, [&](const Symbol& a, const Symbol& b) { return merges_->Find(a.id, b.id); });
    } else {
      MergeSymbols(symbols,
                   [&](const Symbol& a, const Symbol& b) { return FindByScore(text, a, b, splits); });
    }
    if (symbols.empty()) return absl::OkStatus();
    for (int32_t i = 0; i != kNoSymbol; i = symbols[i].next) {
      const std::string_view piece = std::string_view(text).substr(symbols[i].begin, symbols[i].length);
      if (symbols[i].id != kNoToken) {
        AppendUsed(piece, symbols[i].id, splits, ids);
        continue;
      }
      for (char byte : piece) {
        const TokenId id = byte_tokens_[static_cast<uint8_t>(byte)];
        if (id == kNoToken) return UnspellableByte(byte);
        ids.push_back(id);
      }
    }
    return absl::OkStatus();
  }

  std::string Normalize(std::string_view fragment, bool at_start) const {
    std::string text = remove_extra_whitespaces_ ? CollapseSpaces(fragment) : std::string(fragment);
    const bool has_space = text.starts_with(' ');
    const bool add = dummy_prefix_ == DummyPrefix::kEachFragment ||
                     (dummy_prefix_ == DummyPrefix::kEachFragmentUnlessSpace && !has_space) ||
                     (dummy_prefix_ == DummyPrefix::kTextStartUnlessSpace && !has_space && at_start);
    if (add && !text.empty()) text.insert(text.begin(), ' ');
    return text;
  }

  // User-defined tokens, else code points, else single bytes.
  std::vector<Symbol> Symbols(std::string_view text) const {
    const auto* data = reinterpret_cast<const uint8_t*>(text.data());
    const auto size = static_cast<int64_t>(text.size());
    std::vector<Symbol> symbols;
    symbols.reserve(text.size());
    for (int64_t position = 0; position < size;) {
      const auto begin = static_cast<uint32_t>(position);
      if (const auto match = user_defined_.LongestAt(text, position)) {
        AppendSymbol(symbols, begin, static_cast<uint32_t>(match->length), match->value, /*frozen=*/true);
        position += static_cast<int64_t>(match->length);
        continue;
      }
      UChar32 c;
      U8_NEXT(data, position, size, c);
      const auto length = static_cast<uint32_t>(position - begin);
      const TokenId id = c < 0 ? kNoToken : Lookup(text.substr(begin, length));
      if (id == kNoToken && (c < 0 || merges_)) {
        for (uint32_t k = 0; k < length; ++k)
          AppendSymbol(symbols, begin + k, 1, ByteSymbol(data[begin + k]));
      } else {
        AppendSymbol(symbols, begin, length, id);
      }
    }
    return symbols;
  }

  // Ranked merges name byte tokens too; scored ones look at the text, so that a byte must stay unknown.
  TokenId ByteSymbol(uint8_t byte) const { return merges_ ? byte_tokens_[byte] : kNoToken; }

  TokenId Lookup(std::string_view spelling) const {
    const auto found = ids_.find(spelling);
    return found == ids_.end() ? kNoToken : found->second;
  }

  std::optional<Merge> FindByScore(std::string_view text, const Symbol& a, const Symbol& b,
                                   Splits& splits) const {
    const size_t length = size_t{a.length} + b.length;
    if (length > longest_piece_) return std::nullopt;
    const TokenId id = Lookup(text.substr(a.begin, length));
    if (id == kNoToken) return std::nullopt;
    if (vocabulary().types[id] == TokenType::kUnused) splits[id] = a.length;
    return Merge{ranks_[id], id};
  }

  // An unused token helps merging but is never given out: it falls apart into what it was made of.
  void AppendUsed(std::string_view piece, TokenId id, const Splits& splits, std::vector<TokenId>& ids) const {
    std::vector<std::pair<std::string_view, TokenId>> stack = {{piece, id}};
    while (!stack.empty()) {
      const auto [part, part_id] = stack.back();
      stack.pop_back();
      const auto split = splits.find(part_id);
      if (split == splits.end()) {
        ids.push_back(part_id);
        continue;
      }
      const std::string_view left = part.substr(0, split->second);
      const std::string_view right = part.substr(split->second);
      stack.emplace_back(right, Lookup(right));
      stack.emplace_back(left, Lookup(left));
    }
  }

  DummyPrefix dummy_prefix_;
  bool remove_extra_whitespaces_;
  std::vector<uint32_t> ranks_;                         // of each token by score; empty with merges_
  std::optional<MergeTable> merges_;                    // instead of ranks_
  absl::flat_hash_map<std::string_view, TokenId> ids_;  // keys borrow from bytes()
  std::array<TokenId, 256> byte_tokens_;
  LiteralTrie user_defined_;
  size_t longest_piece_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> CreateSentencePieceBpe(Vocabulary vocabulary,
                                                                  const SentencePieceOptions& options) {
  TC_RETURN_IF_ERROR(vocabulary.Check());
  std::vector<std::string> bytes(vocabulary.texts.size());
  for (size_t id = 0; id < bytes.size(); ++id) {
    const std::string& text = vocabulary.texts[id];
    switch (vocabulary.types[id]) {
      case TokenType::kControl:
      case TokenType::kUnknown:
        break;
      case TokenType::kByte: {
        const std::optional<uint8_t> value = ByteTokenValue(text);
        if (!value) {
          return InvalidArgument("{}: byte token {} is spelt \"{}\", not like <0x41>", vocabulary.source, id,
                                 Printable(text));
        }
        bytes[id].assign(1, static_cast<char>(*value));
        break;
      }
      case TokenType::kNormal:
      case TokenType::kUserDefined:
      case TokenType::kUnused:
        bytes[id] = absl::StrReplaceAll(text, {{"\xE2\x96\x81", " "}});
        break;
    }
  }
  std::vector<uint32_t> ranks;
  std::optional<MergeTable> merges;
  if (!options.scores.empty()) {
    if (options.scores.size() != vocabulary.texts.size()) {
      return InvalidArgument("{}: {} tokens but {} scores", vocabulary.source, vocabulary.texts.size(),
                             options.scores.size());
    }
    TC_ASSIGN_OR_RETURN(ranks, RanksOfScores(options.scores, vocabulary.source));
  } else {
    TC_ASSIGN_OR_RETURN(merges, MergeTable::Create(options.merges, vocabulary));
  }
  return std::make_unique<SentencePieceBpe>(std::move(vocabulary), std::move(bytes), options,
                                            std::move(ranks), std::move(merges));
}

}  // namespace thermocline
