// Perplexity over windows, and the distance from a reference.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/evaluation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "scheduler/distribution.h"
#include "scheduler/sampler.h"

namespace thermocline {
namespace {

// The least value that 99 % of the values do not exceed.
double Percentile99(std::vector<double> values) {
  const auto rank = static_cast<std::ptrdiff_t>(std::ceil(0.99 * static_cast<double>(values.size()))) - 1;
  std::ranges::nth_element(values, values.begin() + rank);
  return values[static_cast<size_t>(rank)];
}

class Evaluator {
 public:
  static absl::StatusOr<EvaluationResult> Run(Transformer& transformer, std::span<const TokenId> text,
                                              const EvaluationOptions& options) {
    Evaluator evaluator(transformer, options);
    TC_RETURN_IF_ERROR(evaluator.Prepare());
    const auto text_per_window = static_cast<size_t>(options.window_tokens - (options.bos ? 1 : 0));
    std::vector<TokenId> window;
    for (size_t begin = 0; begin < text.size(); begin += text_per_window) {
      const auto part = text.subspan(begin, std::min(text_per_window, text.size() - begin));
      window.clear();
      if (options.bos) window.push_back(*options.bos);
      window.insert(window.end(), part.begin(), part.end());
      TC_RETURN_IF_ERROR(evaluator.Window(window));
    }
    return evaluator.Finish();
  }

 private:
  Evaluator(Transformer& transformer, const EvaluationOptions& options)
      : transformer_(transformer), options_(options) {}

  absl::Status Prepare() {
    if (options_.window_tokens < 2 || options_.window_tokens > transformer_.context_length()) {
      return InvalidArgument("a window of {} tokens, allowed are 2 to {}", options_.window_tokens,
                             transformer_.context_length());
    }
    step_tokens_ = transformer_.max_step_tokens();
    if (options_.reference != nullptr) {
      if (options_.reference->context_length() < options_.window_tokens) {
        return InvalidArgument("a window of {} tokens, the reference's context is {}", options_.window_tokens,
                               options_.reference->context_length());
      }
      step_tokens_ = std::min(step_tokens_, options_.reference->max_step_tokens());
      TC_ASSIGN_OR_RETURN(reference_logits_, Matrix<float>::Create(step_tokens_, transformer_.n_vocab()));
    }
    TC_ASSIGN_OR_RETURN(logits_, Matrix<float>::Create(step_tokens_, transformer_.n_vocab()));
    return absl::OkStatus();
  }

  absl::Status Window(std::span<const TokenId> window) {
    const auto size = static_cast<int64_t>(window.size());
    int64_t count = 0;
    for (int64_t first = 0; first + 1 < size; first += count) {
      // The first token of a text is always of a prompt; others may be decoded. The last predicts nothing.
      count = first == 0 ? 1 : std::min(step_tokens_, size - 1 - first);
      const auto block = window.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
      TC_RETURN_IF_ERROR(transformer_.ForwardAll({.tokens = block,
                                                  .first_position = first,
                                                  .kind = first == 0 ? StepKind::kPrefill : StepKind::kDecode,
                                                  .quality = options_.quality},
                                                 logits_.view().Rows(0, count)));
      for (int64_t t = 0; t < count; ++t) {
        const TokenId next = window[static_cast<size_t>(first + t + 1)];
        result_.negative_log_likelihood -= LogprobOf(logits_.row(t), next, 0).logprob;
        ++result_.scored_tokens;
      }
      if (options_.reference != nullptr) TC_RETURN_IF_ERROR(Compare(block, first));
    }
    return absl::OkStatus();
  }

  absl::Status Compare(std::span<const TokenId> block, int64_t first) {
    const auto count = static_cast<int64_t>(block.size());
    TC_RETURN_IF_ERROR(
        options_.reference->ForwardAll({.tokens = block,
                                        .first_position = first,
                                        .kind = first == 0 ? StepKind::kPrefill : StepKind::kDenseDecode},
                                       reference_logits_.view().Rows(0, count)));
    for (int64_t t = 0; t < count; ++t) {
      const DistributionDistance distance = CompareDistributions(reference_logits_.row(t), logits_.row(t));
      divergences_.push_back(distance.kl_divergence);
      if (distance.same_top) ++same_top_;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<EvaluationResult> Finish() {
    if (result_.scored_tokens == 0) return InvalidArgument("the text has no token to score");
    if (options_.reference != nullptr) {
      const auto tokens = static_cast<double>(result_.scored_tokens);
      result_.kl_mean = std::accumulate(divergences_.begin(), divergences_.end(), 0.0) / tokens;
      result_.kl_p99 = Percentile99(std::move(divergences_));
      result_.top1_agreement = static_cast<double>(same_top_) / tokens;
    }
    return result_;
  }

  Transformer& transformer_;
  const EvaluationOptions& options_;
  int64_t step_tokens_ = 0;
  Matrix<float> logits_;            // (step_tokens, n_vocab)
  Matrix<float> reference_logits_;  // (step_tokens, n_vocab)
  std::vector<double> divergences_;
  int64_t same_top_ = 0;
  EvaluationResult result_;
};

}  // namespace

double EvaluationResult::perplexity() const {
  return std::exp(negative_log_likelihood / static_cast<double>(scored_tokens));
}

absl::StatusOr<EvaluationResult> Evaluate(Transformer& transformer, std::span<const TokenId> text,
                                          const EvaluationOptions& options) {
  return Evaluator::Run(transformer, text, options);
}

}  // namespace thermocline
