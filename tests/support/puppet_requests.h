// Requests in letters, for the puppet model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "scheduler/request.h"
#include "tests/support/puppet_tokenizer.h"

namespace thermocline::testing {

inline CompletionRequest Prompt(std::string_view text, int64_t max_tokens = 5) {
  CompletionRequest request;
  request.prompt = PuppetTokenizer::IdsOf(text);
  request.stopping.max_tokens = max_tokens;
  return request;
}

}  // namespace thermocline::testing
