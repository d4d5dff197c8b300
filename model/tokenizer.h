// Tokenizer: text to token ids and back, from a GGUF file or a Hugging Face folder.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace thermocline {

class GgufMetadata;

using TokenId = int32_t;

// Immutable and safe to share between threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  struct EncodeOptions {
    bool add_bos = true;         // honoured only where the model asks for a BOS
    bool parse_special = false;  // whether "<s>"-like special tokens in the text become their ids
  };

  // Any bytes, invalid UTF-8 too. Decode(Encode(text)) gives the text's bytes back wherever the vocabulary
  // can spell them, unless the model itself changes text (NFC, removed spaces, a leading space that it cannot
  // tell from its own). InvalidArgument naming the first byte that it cannot spell, or the limit on the
  // length.
  virtual absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text,
                                                      const EncodeOptions& options) const = 0;

  // A stretch of a text that comes from several hands.
  struct Piece {
    std::string_view text;
    bool parse_special = false;
  };

  // Encodes the pieces as the one text that they make, but finds special tokens only where they lie within
  // pieces that ask for it. Added tokens that are not special are found everywhere, as in Encode, except for
  // those that pieces with parse_special spell: text between markers must not look like a marker.
  virtual absl::StatusOr<std::vector<TokenId>> EncodePieces(std::span<const Piece> pieces,
                                                            bool add_bos) const = 0;

  // Bytes of one token in the midst of a text; the view lives as long as the tokenizer. Control tokens and
  // the unknown token give "". Id must be in [0, vocabulary_size()).
  virtual std::string_view TokenBytes(TokenId id) const = 0;

  // The literal spelling, for inspection: "<s>", "\u2581the".
  virtual std::string_view TokenText(TokenId id) const = 0;

  // Bytes of the ids in a row; where the tokenizer puts a dummy space before a text, a text that starts at
  // the beginning loses it again. Control tokens give nothing. InvalidArgument naming the first id out of
  // range.
  absl::StatusOr<std::string> Decode(std::span<const TokenId> ids) const;

  // Whether a decoded text starts with a space that Encode put there.
  virtual bool strips_leading_space() const = 0;

  virtual int64_t vocabulary_size() const = 0;
  virtual std::optional<TokenId> bos() const = 0;
  virtual const std::vector<TokenId>& end_tokens() const = 0;  // any of them ends a completion
  virtual bool adds_bos() const = 0;
  virtual std::string_view kind() const = 0;  // "sentencepiece-bpe", "byte-level-bpe"
};

// From tokenizer.ggml.*; unknown models and pre-tokenizers are refused by name. Keeps nothing of `metadata`.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizer(const GgufMetadata& metadata);

// From tokenizer.json, else tokenizer.model, beside config.json, tokenizer_config.json and
// generation_config.json in `folder`. NotFound when neither is there; what is not known to be followed
// exactly is refused by name.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateTokenizerFromFolder(const std::string& folder);

// Turns a stream of tokens into text without ever splitting a code point. A byte that can no longer become
// valid UTF-8 comes out as U+FFFD, so that everything given out is valid UTF-8.
class IncrementalDecoder {
 public:
  // `at_start`: whether the first token opens the text, so that a dummy leading space is dropped.
  IncrementalDecoder(const Tokenizer& tokenizer, bool at_start);
  // The text that became complete with this token; may be empty. An id out of range adds nothing.
  std::string Push(TokenId id);
  // What is still held back, made valid.
  std::string Flush();

 private:
  const Tokenizer& tokenizer_;
  bool strip_leading_space_;
  std::string pending_;
};

}  // namespace thermocline
