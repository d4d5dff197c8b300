// Reader of sentencepiece's tokenizer.model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/sentencepiece_bpe.h"
#include "model/tokenizer_vocabulary.h"

namespace thermocline {

struct SentencePieceModel {
  Vocabulary vocabulary;  // BOS and EOS as the file names them; adds_bos when there is a BOS
  SentencePieceOptions options;
};

// `file` names the bytes in messages. InvalidArgument for what is not such a file or fails its checks (a
// piece twice, a type unknown), Unimplemented naming the feature for models that are not plain BPE: Unigram,
// word and character models, a precompiled character map, whitespace as suffix, whitespace not escaped.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes, const std::string& file);

}  // namespace thermocline
