// Vocabulary: checks, end tokens, byte tokens.
// SPDX-License-Identifier: Apache-2.0
#include "model/tokenizer_vocabulary.h"

#include <algorithm>
#include <array>

namespace thermocline {
namespace {

constexpr std::array<std::string_view, 8> kEndSpellings = {
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>",    "<|eot_id|>",
    "<|eom_id|>",    "<|end|>",         "<end_of_turn>", "<|endofturn|>",
};

std::optional<int> HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return std::nullopt;
}

}  // namespace

absl::Status Vocabulary::Check() const {
  const auto size = static_cast<int64_t>(texts.size());
  if (size == 0) return InvalidArgument("{}: the tokenizer has no tokens", source);
  if (size > kMaxVocabularySize) {
    return InvalidArgument("{}: {} tokens, the limit is {}", source, size, kMaxVocabularySize);
  }
  if (types.size() != texts.size()) {
    return InvalidArgument("{}: {} tokens but {} token types", source, size, types.size());
  }
  for (int64_t id = 0; id < size; ++id) {
    if (static_cast<int64_t>(texts[id].size()) > kMaxTokenBytes) {
      return InvalidArgument("{}: token {} is {} bytes long, the limit is {}", source, id, texts[id].size(),
                             kMaxTokenBytes);
    }
  }
  auto in_range = [size](TokenId id) { return id >= 0 && id < size; };
  for (const AddedToken& token : added) {
    if (!in_range(token.id)) {
      return InvalidArgument("{}: added token id {} is not in [0, {})", source, token.id, size);
    }
    if (token.literal.empty()) return InvalidArgument("{}: added token {} is empty", source, token.id);
  }
  if (bos && !in_range(*bos)) return InvalidArgument("{}: BOS id {} is not in [0, {})", source, *bos, size);
  for (TokenId id : end_tokens) {
    if (!in_range(id)) return InvalidArgument("{}: end token id {} is not in [0, {})", source, id, size);
  }
  if (adds_bos && !bos) return InvalidArgument("{}: a BOS is to be added but none is named", source);
  return absl::OkStatus();
}

void Vocabulary::AddEndToken(TokenId id) {
  if (std::find(end_tokens.begin(), end_tokens.end(), id) == end_tokens.end()) end_tokens.push_back(id);
}

void Vocabulary::AddEndTokensBySpelling() {
  for (size_t id = 0; id < texts.size(); ++id) {
    if (types[id] != TokenType::kControl) continue;
    if (std::find(kEndSpellings.begin(), kEndSpellings.end(), texts[id]) != kEndSpellings.end()) {
      AddEndToken(static_cast<TokenId>(id));
    }
  }
}

absl::StatusOr<TokenType> TokenTypeFromNumber(int64_t number, std::string_view source, int64_t index) {
  if (number < 1 || number > 6) {
    return InvalidArgument("{}: token {} has type {}, known are 1 to 6", source, index, number);
  }
  return static_cast<TokenType>(number);
}

std::optional<uint8_t> ByteTokenValue(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const std::optional<int> high = HexDigit(text[3]);
  const std::optional<int> low = HexDigit(text[4]);
  if (!high || !low) return std::nullopt;
  return static_cast<uint8_t>(*high * 16 + *low);
}

}  // namespace thermocline
