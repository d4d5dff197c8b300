// Vocabulary: the tokens of one tokenizer as a file gives them, before any algorithm.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/tokenizer.h"

namespace thermocline {

// Numbered as in sentencepiece's model files and in tokenizer.ggml.token_type.
enum class TokenType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // never made from plain text, gives no bytes
  kUserDefined = 4,  // always found in plain text, never merged further
  kUnused = 5,
  kByte = 6,  // "<0x41>"
};

// A token that is cut out of the text before the algorithm sees it.
struct AddedToken {
  TokenId id = 0;
  std::string literal;
  bool special = false;      // only found with EncodeOptions::parse_special
  bool strip_left = false;   // swallows the whitespace in front of it
  bool strip_right = false;  // swallows the whitespace behind it
};

// Largest vocabulary and longest token accepted. Both bound what a hostile file can make us allocate, the
// second also the cost of one lookup while merging.
inline constexpr int64_t kMaxVocabularySize = int64_t{1} << 21;
inline constexpr int64_t kMaxTokenBytes = 4096;

// A spelling may occur twice; Encode gives the first of the ids.
struct Vocabulary {
  std::string source;  // the file, for messages
  std::vector<std::string> texts;
  std::vector<TokenType> types;
  std::vector<AddedToken> added;
  std::optional<TokenId> bos;
  std::vector<TokenId> end_tokens;
  bool adds_bos = false;

  // InvalidArgument naming the source and what is wrong: no tokens or too many, a token that is too long,
  // types of another count, an id of `added`, `bos` or `end_tokens` out of range, adds_bos without a bos.
  absl::Status Check() const;
  // Appends `id` to end_tokens unless it is there.
  void AddEndToken(TokenId id);
  // Appends the control tokens whose spelling says that they end a turn or a text: files often name only one
  // of them as EOS while the model also emits another.
  void AddEndTokensBySpelling();
};

// InvalidArgument naming source, index and value.
absl::StatusOr<TokenType> TokenTypeFromNumber(int64_t number, std::string_view source, int64_t index);

// The byte that "<0x41>" stands for; nullopt for any other spelling.
std::optional<uint8_t> ByteTokenValue(std::string_view text);

}  // namespace thermocline
