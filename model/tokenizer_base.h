// TokenizerBase: what both algorithms share: the token tables, added tokens cut out of the text, BOS.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/tokenizer_literals.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {

class TokenizerBase : public Tokenizer {
 public:
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                              const EncodeOptions& options) const final;
  absl::StatusOr<std::vector<TokenId>> EncodePieces(std::span<const Piece> pieces, bool add_bos) const final;
  std::string_view TokenBytes(TokenId id) const final { return bytes_[id]; }
  std::string_view TokenText(TokenId id) const final { return vocabulary_.texts[id]; }
  int64_t vocabulary_size() const final { return static_cast<int64_t>(vocabulary_.texts.size()); }
  std::optional<TokenId> bos() const final { return vocabulary_.bos; }
  const std::vector<TokenId>& end_tokens() const final { return vocabulary_.end_tokens; }
  bool adds_bos() const final { return vocabulary_.adds_bos; }

 protected:
  // `vocabulary` must have passed Check(); `bytes` is what each token stands for.
  TokenizerBase(Vocabulary vocabulary, std::vector<std::string> bytes);

  // Appends the ids of a stretch without added tokens; never empty. `at_start`: whether it opens the text.
  virtual absl::Status EncodeFragment(std::string_view fragment, bool at_start,
                                      std::vector<TokenId>& ids) const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const std::vector<std::string>& bytes() const { return bytes_; }

 private:
  struct Marked;
  absl::StatusOr<std::vector<TokenId>> EncodeMarked(const Marked& marked, bool add_bos) const;
  std::optional<LiteralTrie::Match> MatchAt(const Marked& marked, size_t position, size_t special_end) const;

  // Where each added token is found: in any text, and where special tokens are parsed as well. Values index
  // vocabulary_.added.
  LiteralTrie always_;
  LiteralTrie with_special_;
  Vocabulary vocabulary_;
  std::vector<std::string> bytes_;
};

// What Encode answers for a byte that no token can spell.
absl::Status UnspellableByte(char byte);

}  // namespace thermocline
