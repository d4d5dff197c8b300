// Byte-level BPE: every byte is a token, pieces cut by regular expressions are merged by rank.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/tokenizer_merge.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {

struct ByteLevelOptions {
  std::vector<std::string> patterns;  // of the pre-tokenizer, applied in turn
  bool nfc = false;                   // whether text is composed (NFC) first
  bool ignore_merges = false;         // whether a piece that is a token is taken whole
  std::vector<MergeTable::Pair> merges;
};

// Tokens spell bytes with the 256 printable characters of GPT-2 ("\u0120the" for " the"). Invalid UTF-8 comes
// back byte for byte as long as the vocabulary has all 256 bytes; some lack a few, and Encode says so.
// With `nfc`, valid UTF-8 comes back composed, as the model was trained; other text is left as it is.
//
// InvalidArgument for a vocabulary that fails its checks, merges that name unknown tokens, patterns that ICU
// does not take, and byte tokens ("<0x41>"), which have no place here.
absl::StatusOr<std::unique_ptr<Tokenizer>> CreateByteLevelBpe(Vocabulary vocabulary,
                                                              const ByteLevelOptions& options);

}  // namespace thermocline
