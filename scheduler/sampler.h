// Sampling: the next token as a pure function of logits, history and a random stream.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/random.h"
#include "model/tokenizer.h"
#include "scheduler/request.h"

namespace thermocline {

// How often each token was seen; updated once a token.
struct TokenHistory {
  absl::flat_hash_map<TokenId, int64_t> generated;  // counts in the completion
  absl::flat_hash_map<TokenId, int64_t> all;        // counts in prompt and completion

  void AddPrompt(std::span<const TokenId> tokens) {
    for (const TokenId token : tokens) ++all[token];
  }
  void AddGenerated(TokenId token) {
    ++all[token];
    ++generated[token];
  }
};

// Whether some penalty is asked for, which needs the tokens so far.
bool Penalizes(const SamplingOptions& sampling);

// Scratch reused from token to token; holds n_vocab candidates.
struct SamplerScratch {
  struct Candidate {
    TokenId id;
    float logit;
    double weight;  // exp(logit / temperature), relative to the likeliest
  };
  std::vector<float> logits;
  std::vector<Candidate> candidates;
};

// The next token. Order of work: penalties and bias, banned tokens, then greedy (temperature 0, ties to the
// lower id), or temperature, top-k, top-p, min-p and one draw. `banned` tokens are never chosen (end tokens
// before min_tokens). nullopt when the likeliest logit is not finite or none is allowed.
std::optional<TokenId> SampleToken(std::span<const float> logits, const SamplingOptions& options,
                                   const TokenHistory& history, std::span<const TokenId> banned,
                                   SplitMix64& random, SamplerScratch& scratch);

// Natural log-probability of `token` under softmax(logits), and the `top` likeliest tokens (ties to the lower
// id).
TokenLogprob LogprobOf(std::span<const float> logits, TokenId token, int top);

}  // namespace thermocline
