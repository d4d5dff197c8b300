// PuppetRunner: a ModelRunner that goes on with the alphabet; a test can hold it, fail it and watch it.
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
#include <vector>

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

  explicit PuppetRunner(int64_t context_length = 4096, int64_t max_step_tokens = 16, bool predicts = false)
      : context_length_(context_length), max_step_tokens_(max_step_tokens), predicts_(predicts) {}

  // What a step reads, by its kind and quality alone.
  static StepFigures FiguresOf(StepKind kind, Quality quality) {
    StepFigures figures{.neurons = 100,
                        .marked_neurons = 100,
                        .active_neurons = 8,
                        .active_on_accelerators = 5,
                        .bytes = 1000};
    if (kind == StepKind::kPrefill) return figures;
    if (quality == Quality::kBalanced) figures.marked_neurons = 20;
    if (quality == Quality::kFast) figures.marked_neurons = 10;
    figures.bytes = 300 + figures.marked_neurons;
    return figures;
  }
  // What an audit finds, by the position alone.
  static AuditFigures AuditAt(int64_t position) {
    return {.active_neurons = 8,
            .marked_active_neurons = 8 - position % 3,
            .kl_divergence = 0.125 * static_cast<double>(position % 5),
            .same_top = position % 2 == 0};
  }

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

  // Of the decode steps so far, in their order.
  std::vector<Quality> decode_qualities() const {
    const std::lock_guard lock(mutex_);
    return decode_qualities_;
  }
  // That were audited.
  std::vector<int64_t> audited_positions() const {
    const std::lock_guard lock(mutex_);
    return audited_positions_;
  }

  // Begun, held ones included.
  int64_t forward_calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

  int64_t context_length() const override { return context_length_; }
  int64_t n_vocab() const override { return PuppetTokenizer::kVocabularySize; }
  int64_t max_step_tokens() const override { return max_step_tokens_; }
  bool predicts() const override { return predicts_; }
  StepFigures last_step() const override {
    const std::lock_guard lock(mutex_);
    return last_step_;
  }
  const ExecutionStats& execution_stats() const override { return execution_stats_; }

  int64_t n_kv_pages() const override { return PagesFor(context_length_); }
  absl::Status health() const override { return absl::OkStatus(); }

  absl::StatusOr<AuditFigures> ForwardBatchAudited(const BatchStep& step, MatrixView<float> logits) override {
    const SequenceSlice& slice = step.slices.front();
    TC_CHECK(predicts_ && step.kind == StepKind::kDecode && slice.quality != Quality::kExact);
    TC_RETURN_IF_ERROR(ForwardBatch(step, logits));
    const std::lock_guard lock(mutex_);
    audited_positions_.push_back(slice.first_position);
    return AuditAt(slice.first_position);
  }

  absl::Status ForwardBatch(const BatchStep& step, MatrixView<float> all_logits) override {
    TC_CHECK(step.slices.size() == 1);
    const Quality quality = step.slices.front().quality;
    const std::span<float> logits = all_logits.row(0);
    TC_CHECK(predicts_ || quality == Quality::kExact);
    std::unique_lock lock(mutex_);
    ++calls_;
    if (step.kind == StepKind::kDecode) decode_qualities_.push_back(quality);
    last_step_ = FiguresOf(step.kind, quality);
    AddExecution();
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

  // As of two devices and an overlap that is three quarters of the accelerator's time.
  void AddExecution() {
    ++execution_stats_.steps;
    execution_stats_.operators += 10;
    execution_stats_.skipped_operators += 1;
    execution_stats_.hand_overs += 2;
    execution_stats_.hand_over_seconds += 4e-6;
    execution_stats_.busy_seconds.resize(2);
    execution_stats_.busy_seconds[0] += 2;
    execution_stats_.busy_seconds[1] += 1;
    execution_stats_.accelerators_seconds += 1;
    execution_stats_.overlap_seconds += 0.75;
  }

  TokenId NextOf(TokenId last) const {
    if (const auto scripted = next_.find(last); scripted != next_.end()) return scripted->second;
    constexpr TokenId kA = PuppetTokenizer::IdOf('a');
    constexpr TokenId kZ = PuppetTokenizer::IdOf('z');
    return last >= kA && last < kZ ? last + 1 : kA;
  }

  const int64_t context_length_;
  const int64_t max_step_tokens_;
  const bool predicts_;
  ExecutionStats execution_stats_;  // the scheduler's thread's
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  std::map<TokenId, TokenId> next_;
  TokenId nan_after_ = -1;
  TokenId fail_after_ = -1;
  absl::Status failure_;
  StepFigures last_step_;
  std::vector<Quality> decode_qualities_;
  std::vector<int64_t> audited_positions_;
  int64_t hold_at_ = kNever;
  int64_t calls_ = 0;
  bool held_ = false;
};

}  // namespace thermocline::testing
