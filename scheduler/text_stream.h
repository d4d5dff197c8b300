// TextStream: the text side of a completion, from tokens to code points to what stop strings let through.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "model/tokenizer.h"
#include "scheduler/request.h"
#include "scheduler/stop_matcher.h"

namespace thermocline {

class TextStream {
 public:
  // `at_start`: whether the first token opens the text (IncrementalDecoder). The tokenizer must outlive it.
  TextStream(const Tokenizer& tokenizer, const StoppingOptions& stopping, bool at_start)
      : decoder_(tokenizer, at_start), matcher_(stopping.stop, stopping.include_stop) {}

  // Text of the prompt, in which stop strings do not count.
  std::string PushPrompt(std::span<const TokenId> tokens);
  // `may_stop`: whether stop strings count yet.
  std::string Push(TokenId token, bool may_stop);
  // What was held back.
  std::string Finish();

  bool stopped() const { return matcher_.stopped(); }
  const std::string& matched() const { return matcher_.matched(); }

 private:
  IncrementalDecoder decoder_;
  StopMatcher matcher_;
};

}  // namespace thermocline
