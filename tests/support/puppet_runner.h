// PuppetRunner: a ModelRunner that goes on with the alphabet; a test can hold it and fail it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <span>
#include <utility>

#include "core/status.h"
#include "scheduler/model_runner.h"
#include "tests/support/puppet_tokenizer.h"

namespace thermocline::testing {

// The likeliest token depends on the last one alone: after a letter comes the next of the alphabet ("a" after
// "z"), after anything else "a", unless Follow() says otherwise. So "abc" is completed by "defghi".
// A test's thread and the scheduler's may use it at once.
class PuppetRunner final : public ModelRunner {
 public:
  // Logits of the likeliest token, of the one whose id is one higher, and of all others.
  static constexpr float kBestLogit = 10;
  static constexpr float kSecondLogit = 5;
  static constexpr float kOtherLogit = 0;

  explicit PuppetRunner(int64_t context_length = 4096, int64_t max_step_tokens = 16)
      : context_length_(context_length), max_step_tokens_(max_step_tokens) {}

  void Follow(TokenId last, TokenId next) {
    const std::lock_guard lock(mutex_);
    next_[last] = next;
  }
  // Logits that are no numbers come after this token.
  void NanAfter(TokenId last) {
    const std::lock_guard lock(mutex_);
    nan_after_ = last;
  }
  // Every Forward that ends with this token fails.
  void FailAfter(TokenId last, absl::Status status) {
    const std::lock_guard lock(mutex_);
    fail_after_ = last;
    failure_ = std::move(status);
  }

  // The call of this number (the first ever is 1) and all later ones wait in Forward until Release().
  void HoldAt(int64_t call) {
    const std::lock_guard lock(mutex_);
    hold_at_ = call;
  }
  void WaitUntilHeld() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return held_; });
  }
  void Release() {
    const std::lock_guard lock(mutex_);
    hold_at_ = kNever;
    changed_.notify_all();
  }

  // Begun, held ones included.
  int64_t forward_calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

  int64_t context_length() const override { return context_length_; }
  int64_t n_vocab() const override { return PuppetTokenizer::kVocabularySize; }
  int64_t max_step_tokens() const override { return max_step_tokens_; }
  bool predicts() const override { return false; }
  StepFigures last_step() const override { return {}; }
  absl::StatusOr<AuditFigures> ForwardAudited(const StepInput&, std::span<float>) override {
    return absl::UnimplementedError("the puppet has no predictors");
  }

  absl::Status Forward(const StepInput& step, std::span<float> logits) override {
    std::unique_lock lock(mutex_);
    ++calls_;
    held_ = calls_ >= hold_at_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return calls_ < hold_at_; });
    held_ = false;

    const TokenId last = step.tokens.back();
    if (last == fail_after_) return failure_;
    const bool nan = last == nan_after_;
    std::ranges::fill(logits, nan ? std::numeric_limits<float>::quiet_NaN() : kOtherLogit);
    if (nan) return absl::OkStatus();
    const auto best = static_cast<size_t>(NextOf(last));
    logits[best] = kBestLogit;
    logits[(best + 1) % logits.size()] = kSecondLogit;
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  TokenId NextOf(TokenId last) const {
    if (const auto scripted = next_.find(last); scripted != next_.end()) return scripted->second;
    constexpr TokenId kA = PuppetTokenizer::IdOf('a');
    constexpr TokenId kZ = PuppetTokenizer::IdOf('z');
    return last >= kA && last < kZ ? last + 1 : kA;
  }

  const int64_t context_length_;
  const int64_t max_step_tokens_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  std::map<TokenId, TokenId> next_;
  TokenId nan_after_ = -1;
  TokenId fail_after_ = -1;
  absl::Status failure_;
  int64_t hold_at_ = kNever;
  int64_t calls_ = 0;
  bool held_ = false;
};

}  // namespace thermocline::testing
