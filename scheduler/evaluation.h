// Evaluation: how well a model predicts a text, and how far a mode is from dense.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/status.h"
#include "scheduler/transformer.h"

namespace thermocline {

struct EvaluationOptions {
  int64_t window_tokens = 0;          // [2, the transformer's context]
  std::optional<TokenId> bos;         // opens every window
  Quality quality = Quality::kExact;  // of every step; other than kExact only where the transformer predicts
  Transformer* reference = nullptr;   // dense, to compare with; nullptr: no comparison
};

struct EvaluationResult {
  int64_t scored_tokens = 0;
  double negative_log_likelihood = 0;  // sum over the scored tokens, natural logarithm
  double perplexity() const;

  // Against the reference, over the scored tokens' distributions; zero without one.
  double kl_mean = 0;  // KL divergence from the reference's distribution, in nats
  double kl_p99 = 0;
  double top1_agreement = 0;  // share of tokens for which both have the same likeliest next token
};

// Cuts the text's tokens into windows of `window_tokens`, without overlap, each its own context. Where `bos`
// is given each window opens with it and holds that much less text. The first token of a window is not
// scored. A window's first token is computed as a prompt's is, all others as decode steps would compute them.
// InvalidArgument when the text has no token to score, the window is out of range or the reference takes
// less.
absl::StatusOr<EvaluationResult> Evaluate(Transformer& transformer, std::span<const TokenId> text,
                                          const EvaluationOptions& options);

}  // namespace thermocline
