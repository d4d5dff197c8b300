// PreTokenizer: cuts a text into the pieces that byte-level BPE merges one by one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace thermocline {

// Immutable and safe to share between threads.
class PreTokenizer {
 public:
  // Each pattern (ICU regular expression) is applied in turn to the pieces of the one before; matches and
  // what lies between them become pieces. InvalidArgument naming the pattern and the place of a syntax error.
  static absl::StatusOr<PreTokenizer> Create(const std::vector<std::string>& patterns);

  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;
  ~PreTokenizer();

  // The pieces of `text` in order; together they are the text, byte for byte. A sequence that is not UTF-8
  // is classed as U+FFFD. InvalidArgument where a pattern needs too much time or memory.
  absl::StatusOr<std::vector<std::string_view>> Split(std::string_view text) const;

 private:
  struct Pattern;
  explicit PreTokenizer(std::vector<std::unique_ptr<Pattern>> patterns);

  std::vector<std::unique_ptr<Pattern>> patterns_;
};

// Patterns of the known pre-tokenizers, facts of the models that were trained with them.
std::string_view Gpt2Pattern();
std::string_view Llama3Pattern();
std::string_view Qwen2Pattern();
std::string_view SingleDigitPattern();
std::string_view DigitRunPattern();

}  // namespace thermocline
