// SentencePiece BPE: merges over code points, spaces as part of tokens, bytes where no token fits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "model/tokenizer_merge.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {

struct SentencePieceOptions {
  // Where Encode puts a space that the text does not have.
  enum class DummyPrefix {
    kNone,
    kEachFragment,             // at the start of the text and behind each added token
    kEachFragmentUnlessSpace,  // the same, but not where a space is already
    kTextStartUnlessSpace,     // only at the start of the text, not where a space is already
  };

  DummyPrefix dummy_prefix = DummyPrefix::kEachFragment;
  bool remove_extra_whitespaces = false;  // at both ends, and runs become one space
  // Text never has a plain space once it is normalised, so that sentencepiece never finds a token spelt with
  // one. GGUF files, though, spell user-defined tokens with plain spaces where they mean U+2581.
  bool user_defined_with_plain_spaces = false;
  // A merge is ranked by the score of its result, one score a token ...
  std::vector<float> scores;
  // ... or, where there are no scores, by its place in this list.
  std::vector<MergeTable::Pair> merges;
};

// Tokens spell a space as U+2581. A U+2581 of the text itself is no space: it is spelt in bytes, so that it
// comes back (sentencepiece reads it as a space). Bytes that are not UTF-8 are spelt one by one
// (sentencepiece reads U+FFFD). All else gives sentencepiece's ids.
//
// InvalidArgument for a vocabulary that fails its checks, scores of another count or not finite, merges that
// name unknown tokens, and a byte token with another spelling than "<0x41>".
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateSentencePieceBpe(Vocabulary vocabulary,
                                                                  const SentencePieceOptions& options);

}  // namespace thermocline
