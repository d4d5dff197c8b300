// Counts and times a completion on its way to whoever asked for it.
// SPDX-License-Identifier: Apache-2.0
#include "server/measured_observer.h"

#include <chrono>
#include <utility>

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

class MeasuredObserver final : public CompletionObserver {
 public:
  MeasuredObserver(ServerMetrics& metrics, int64_t prompt_tokens, std::shared_ptr<CompletionObserver> inner)
      : metrics_(metrics), prompt_tokens_(prompt_tokens), inner_(std::move(inner)) {}

  void OnDelta(CompletionDelta delta) override {
    if (const auto tokens = static_cast<int64_t>(delta.token_ids.size()); tokens > 0) {
      const Clock::time_point now = Clock::now();
      CountPrompt();
      metrics_.ObserveGeneratedTokens(tokens);
      int64_t gaps = tokens;
      if (!has_token_) {
        has_token_ = true;
        metrics_.ObserveFirstToken(SecondsBetween(arrival_, now));
        last_token_ = now;
        --gaps;
      }
      // Tokens that come together share their time.
      for (int64_t i = 0; i < gaps; ++i) {
        metrics_.ObserveInterToken(SecondsBetween(last_token_, now) / static_cast<double>(gaps));
      }
      last_token_ = now;
    }
    inner_->OnDelta(std::move(delta));
  }

  void OnFinish(absl::StatusOr<CompletionSummary> result) override {
    const double seconds = SecondsBetween(arrival_, Clock::now());
    if (result.ok()) {
      CountPrompt();
      metrics_.ObserveFinish(*result, seconds);
    } else {
      metrics_.ObserveFailure(result.status().code(), seconds);
    }
    inner_->OnFinish(std::move(result));
  }

 private:
  // Once; what clients are told of as used is counted.
  void CountPrompt() { metrics_.ObservePromptTokens(std::exchange(prompt_tokens_, 0)); }

  ServerMetrics& metrics_;
  int64_t prompt_tokens_;  // not counted yet
  const std::shared_ptr<CompletionObserver> inner_;
  const Clock::time_point arrival_ = Clock::now();
  Clock::time_point last_token_;
  bool has_token_ = false;
};

}  // namespace

std::shared_ptr<CompletionObserver> MeasureCompletion(ServerMetrics& metrics, int64_t prompt_tokens,
                                                      std::shared_ptr<CompletionObserver> inner) {
  return std::make_shared<MeasuredObserver>(metrics, prompt_tokens, std::move(inner));
}

}  // namespace thermocline
