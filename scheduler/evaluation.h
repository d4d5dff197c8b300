// Evaluation: how well a model predicts a text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/status.h"
#include "scheduler/transformer.h"

namespace thermocline {

struct EvaluationResult {
  int64_t scored_tokens = 0;
  double negative_log_likelihood = 0;  // sum over the scored tokens, natural logarithm
  double perplexity() const;
};

// Cuts the text's tokens into windows of `window_tokens`, without overlap, each its own context. Where `bos`
// is given each window opens with it and holds that much less text. The first token of a window is not
// scored. InvalidArgument when the text has no token to score or the window is outside [2, the runner's
// context].
absl::StatusOr<EvaluationResult> Evaluate(Transformer& transformer, std::span<const TokenId> text,
                                          std::optional<TokenId> bos, int64_t window_tokens);

}  // namespace thermocline
