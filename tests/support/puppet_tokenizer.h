// PuppetTokenizer: a tokenizer of bytes, so that a test can read tokens as text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"

namespace thermocline::testing {

// 0 unknown, 1 beginning, 2 end, then one token a byte. Cannot spell the byte 0x01.
class PuppetTokenizer final : public Tokenizer {
 public:
  static constexpr TokenId kBos = 1;
  static constexpr TokenId kEos = 2;
  static constexpr TokenId kFirstByte = 3;
  static constexpr int64_t kVocabularySize = kFirstByte + 256;

  static constexpr TokenId IdOf(char byte) { return kFirstByte + static_cast<unsigned char>(byte); }

  static std::vector<TokenId> IdsOf(std::string_view text) {
    std::vector<TokenId> ids;
    for (const char byte : text) ids.push_back(IdOf(byte));
    return ids;
  }

  PuppetTokenizer() {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(i);
  }

  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                              const EncodeOptions& options) const override {
    std::vector<TokenId> ids;
    if (options.add_bos) ids.push_back(kBos);
    while (!text.empty()) {
      if (options.parse_special && text.starts_with("<s>")) {
        ids.push_back(kBos);
        text.remove_prefix(3);
        continue;
      }
      if (text.front() == '\x01') return InvalidArgument("no token spells the byte 0x01");
      ids.push_back(IdOf(text.front()));
      text.remove_prefix(1);
    }
    return ids;
  }

  absl::StatusOr<std::vector<TokenId>> EncodePieces(std::span<const Piece> pieces,
                                                    bool add_bos) const override {
    std::vector<TokenId> ids;
    if (add_bos) ids.push_back(kBos);
    for (const Piece& piece : pieces) {
      TC_ASSIGN_OR_RETURN(const std::vector<TokenId> more,
                          Encode(piece.text, {.add_bos = false, .parse_special = piece.parse_special}));
      ids.insert(ids.end(), more.begin(), more.end());
    }
    return ids;
  }

  std::string_view TokenBytes(TokenId id) const override {
    return id < kFirstByte ? std::string_view() : std::string_view(&bytes_[static_cast<size_t>(id - 3)], 1);
  }
  std::string_view TokenText(TokenId id) const override {
    constexpr std::array<std::string_view, 3> kControl = {"<unk>", "<s>", "</s>"};
    return id < kFirstByte ? kControl[static_cast<size_t>(id)] : TokenBytes(id);
  }
  bool strips_leading_space() const override { return false; }
  int64_t vocabulary_size() const override { return kVocabularySize; }
  std::optional<TokenId> bos() const override { return kBos; }
  const std::vector<TokenId>& end_tokens() const override { return end_tokens_; }
  bool adds_bos() const override { return true; }
  std::string_view kind() const override { return "puppet-bytes"; }

 private:
  std::array<char, 256> bytes_;
  const std::vector<TokenId> end_tokens_ = {kEos};
};

}  // namespace thermocline::testing
