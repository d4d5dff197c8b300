// Corpus: a text or JSONL file as a stream of windows of tokens.
// SPDX-License-Identifier: Apache-2.0
//
// A window holds a fixed number of tokens, the last of a document fewer. A text file is one document. It is
// cut into pieces of at most 64 KiB, where possible behind a line break and else before a space, each piece
// is encoded on its own, and windows run across pieces. Every line of a JSONL file is a document.
//
// Where a piece ends follows from the bytes behind its start alone, so that its start and a number of tokens
// to skip are a place from which the same windows come as without a break.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/mapped_file.h"
#include "core/status.h"
#include "model/activation_profile.h"
#include "model/tokenizer.h"

namespace thermocline {

class Corpus {
 public:
  // `text_tokens`: of a window, at least 1. `from`: the start, or where to go on: FailedPrecondition naming
  // both sides when its file has another name or size. InvalidArgument for an empty file. The tokenizer must
  // outlive the result, and the file must stay as it is.
  static absl::StatusOr<std::unique_ptr<Corpus>> Open(const std::string& path, const Tokenizer& tokenizer,
                                                      int64_t text_tokens, const CorpusPosition& from);

  // The tokens of the next window, without a BOS; none at the end of the corpus. Valid until the next call.
  // InvalidArgument naming the byte that is not UTF-8 or the malformed line; position() then stays before the
  // window.
  absl::StatusOr<std::span<const TokenId>> NextWindow();

  // Behind the last window. Opening the corpus there, with the same text_tokens, gives the windows that
  // follow. window_tokens and held_out_every are the caller's and stay 0 or as they came in.
  const CorpusPosition& position() const { return position_; }
  // About how many bytes the windows so far took, between pieces too.
  int64_t read_bytes() const;

 private:
  // A stretch of the file, encoded: of a text at most 64 KiB, of JSONL a line.
  struct Piece {
    int64_t begin = 0;
    int64_t end = 0;
    std::vector<TokenId> tokens;
  };

  Corpus(MappedFile file, const Tokenizer& tokenizer, int64_t text_tokens);
  std::string_view bytes() const;
  absl::Status LoadPiece(int64_t begin);
  absl::Status EncodeTextPiece(int64_t begin);
  absl::Status EncodeLine(int64_t begin);
  absl::Status AppendTokens(std::string_view text);
  absl::Status CheckUtf8(int64_t begin, int64_t end) const;
  std::string LineName(int64_t begin) const;

  const MappedFile file_;
  const Tokenizer& tokenizer_;
  const size_t text_tokens_;
  const bool is_jsonl_;
  CorpusPosition position_;
  Piece piece_;
  size_t next_token_ = 0;  // of the piece
  std::vector<TokenId> window_;
};

}  // namespace thermocline
