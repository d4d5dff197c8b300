// Perplexity over windows.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/evaluation.h"

#include <algorithm>
#include <cmath>

#include "scheduler/sampler.h"

namespace thermocline {

double EvaluationResult::perplexity() const {
  return std::exp(negative_log_likelihood / static_cast<double>(scored_tokens));
}

absl::StatusOr<EvaluationResult> Evaluate(Transformer& transformer, std::span<const TokenId> text,
                                          std::optional<TokenId> bos, int64_t window_tokens) {
  if (window_tokens < 2 || window_tokens > transformer.context_length()) {
    return InvalidArgument("a window of {} tokens, allowed are 2 to {}", window_tokens,
                           transformer.context_length());
  }
  const int64_t step = transformer.max_step_tokens();
  TC_ASSIGN_OR_RETURN(Matrix<float> logits, Matrix<float>::Create(step, transformer.n_vocab()));
  const auto text_per_window = static_cast<size_t>(window_tokens - (bos ? 1 : 0));

  EvaluationResult result;
  std::vector<TokenId> window;
  for (size_t begin = 0; begin < text.size(); begin += text_per_window) {
    const auto part = text.subspan(begin, std::min(text_per_window, text.size() - begin));
    window.clear();
    if (bos) window.push_back(*bos);
    window.insert(window.end(), part.begin(), part.end());
    const auto size = static_cast<int64_t>(window.size());
    for (int64_t first = 0; first + 1 < size; first += step) {
      const int64_t count = std::min(step, size - 1 - first);  // the last token predicts nothing
      const auto block = std::span(window).subspan(static_cast<size_t>(first), static_cast<size_t>(count));
      TC_RETURN_IF_ERROR(
          transformer.ForwardAll({.tokens = block, .first_position = first}, logits.view().Rows(0, count)));
      for (int64_t t = 0; t < count; ++t) {
        const TokenId next = window[static_cast<size_t>(first + t + 1)];
        result.negative_log_likelihood -= LogprobOf(logits.row(t), next, 0).logprob;
        ++result.scored_tokens;
      }
    }
  }
  if (result.scored_tokens == 0) return InvalidArgument("the text has no token to score");
  return result;
}

}  // namespace thermocline
