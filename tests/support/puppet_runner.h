// PuppetRunner: a ModelRunner that goes on with the alphabet and checks every step; a test can hold it, fail
// it and watch it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "core/random.h"
#include "core/status.h"
#include "scheduler/model_runner.h"
#include "tests/support/puppet_tokenizer.h"

namespace thermocline::testing {

// The likeliest token depends on the last one alone: after a letter comes the next of the alphabet ("a" after
// "z"), after anything else "a", unless Follow() says otherwise. So "abc" is completed by "defghi". After
// DependOnContext() logits depend on every token so far and on how each was computed.
//
// It remembers what was computed into every place of its pages, and checks the contract of every step: the
// context of each slice, read through its pages, is one sequence computed from its start; nothing is written
// where another slice reads. Aborts where that does not hold. A test's thread and the scheduler's may use it
// at once.
class PuppetRunner final : public ModelRunner {
 public:
  // Logits of the likeliest token, of the one whose id is one higher, and of all others.
  static constexpr float kBestLogit = 10;
  static constexpr float kSecondLogit = 5;
  static constexpr float kOtherLogit = 0;

  struct StepRecord {
    StepKind kind;
    int64_t n_tokens;
    int64_t n_slices;
  };

  // n_kv_pages 0: for 4 sequences of the whole context.
  explicit PuppetRunner(int64_t context_length = 4096, int64_t max_step_tokens = 16, bool predicts = false,
                        int64_t n_kv_pages = 0)
      : context_length_(context_length),
        max_step_tokens_(max_step_tokens),
        n_kv_pages_(n_kv_pages > 0 ? n_kv_pages : 4 * PagesFor(context_length)),
        predicts_(predicts),
        cells_(static_cast<size_t>(n_kv_pages_ * kKvPageTokens)) {}

  // What a step reads, by its kind and its most demanding quality alone.
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
  // Every letter, and now and then the end, may come next.
  void DependOnContext() {
    const std::lock_guard lock(mutex_);
    depends_on_context_ = true;
  }
  // Logits that are no numbers come after this token.
  void NanAfter(TokenId last) {
    const std::lock_guard lock(mutex_);
    nan_after_ = last;
  }
  // Every step with a slice that ends with this token fails.
  void FailAfter(TokenId last, absl::Status status) {
    const std::lock_guard lock(mutex_);
    fail_after_ = last;
    failure_ = std::move(status);
  }
  // The step of this number (the first ever is 1) and all later ones fail, and the device is lost.
  void LoseDeviceAt(int64_t call) {
    const std::lock_guard lock(mutex_);
    lose_at_ = call;
  }

  // The call of this number (the first ever is 1) and all later ones wait until Release(), or HoldAt() of a
  // higher number.
  void HoldAt(int64_t call) {
    const std::lock_guard lock(mutex_);
    hold_at_ = call;
    changed_.notify_all();
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

  // Of the slices of decode steps so far, in their order.
  std::vector<Quality> decode_qualities() const {
    const std::lock_guard lock(mutex_);
    return decode_qualities_;
  }
  // That were audited.
  std::vector<int64_t> audited_positions() const {
    const std::lock_guard lock(mutex_);
    return audited_positions_;
  }
  std::vector<StepRecord> steps() const {
    const std::lock_guard lock(mutex_);
    return steps_;
  }

  // Begun, held ones included.
  int64_t forward_calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }

  int64_t context_length() const override { return context_length_; }
  int64_t n_vocab() const override { return PuppetTokenizer::kVocabularySize; }
  int64_t n_kv_pages() const override { return n_kv_pages_; }
  int64_t max_step_tokens() const override { return max_step_tokens_; }
  bool predicts() const override { return predicts_; }
  StepFigures last_step() const override {
    const std::lock_guard lock(mutex_);
    return last_step_;
  }
  const ExecutionStats& execution_stats() const override { return execution_stats_; }
  absl::Status health() const override {
    const std::lock_guard lock(mutex_);
    return calls_ >= lose_at_ ? Internal("the puppet's device is lost") : absl::OkStatus();
  }

  absl::StatusOr<AuditFigures> ForwardBatchAudited(const BatchStep& step, MatrixView<float> logits) override {
    TC_CHECK(predicts_ && step.kind == StepKind::kDecode && step.slices.size() == 1 &&
             step.slices[0].n_tokens == 1 && step.slices[0].quality != Quality::kExact);
    TC_RETURN_IF_ERROR(ForwardBatch(step, logits));
    const std::lock_guard lock(mutex_);
    audited_positions_.push_back(step.slices[0].first_position);
    return AuditAt(step.slices[0].first_position);
  }

  absl::Status ForwardBatch(const BatchStep& step, MatrixView<float> logits) override {
    std::unique_lock lock(mutex_);
    ++calls_;
    CheckShape(step, logits);
    CheckSharing(step);
    Record(step);
    held_ = calls_ >= hold_at_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return calls_ < hold_at_; });
    held_ = false;
    if (calls_ >= lose_at_) return Internal("the puppet's device is lost");

    if (step.observer != nullptr) TellOperators(*step.observer);
    absl::Status status = absl::OkStatus();
    const TokenId* tokens = step.tokens.data();
    int64_t row = 0;
    for (const SequenceSlice& slice : step.slices) {
      const uint64_t text = Compute(slice, step.kind, tokens);
      tokens += slice.n_tokens;
      if (tokens[-1] == fail_after_) status = failure_;
      if (slice.wants_logits) FillLogits(tokens[-1], text, logits.row(row++));
    }
    return status;
  }

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

  // What was computed into one place of a page.
  struct Cell {
    int64_t position = -1;
    TokenId token = 0;
    uint64_t how = 0;   // 0: dense or exact; else the quality
    uint64_t text = 0;  // hash of all tokens up to it, and of how they were computed
  };

  static uint64_t Mix(uint64_t a, uint64_t b) { return SplitMix64(a ^ SplitMix64(b).Next()).Next(); }
  static uint64_t TextOf(uint64_t before, TokenId token, uint64_t how) {
    return Mix(before, static_cast<uint64_t>(token) * 4 + how);
  }

  Cell& CellAt(const SequenceSlice& slice, int64_t position) {
    const int64_t index = position / kKvPageTokens;
    const int64_t page = slice.pages.empty() ? index : slice.pages[static_cast<size_t>(index)];
    return cells_[static_cast<size_t>(page * kKvPageTokens + position % kKvPageTokens)];
  }

  void CheckShape(const BatchStep& step, MatrixView<float> logits) const {
    const auto n_tokens = static_cast<int64_t>(step.tokens.size());
    TC_CHECK(n_tokens >= 1 && n_tokens <= max_step_tokens_);
    int64_t sum = 0, rows = 0;
    for (const SequenceSlice& slice : step.slices) {
      TC_CHECK(slice.n_tokens >= 1 && slice.first_position >= 0);
      TC_CHECK(slice.first_position + slice.n_tokens <= context_length_);
      TC_CHECK(slice.quality == Quality::kExact || (predicts_ && step.kind == StepKind::kDecode));
      if (!slice.pages.empty()) {
        TC_CHECK(static_cast<int64_t>(slice.pages.size()) >= PagesFor(slice.first_position + slice.n_tokens));
      }
      for (const KvPage page : slice.pages) TC_CHECK(page >= 0 && page < n_kv_pages_);
      sum += slice.n_tokens;
      rows += slice.wants_logits ? 1 : 0;
    }
    TC_CHECK(sum == n_tokens && logits.rows == rows && (rows == 0 || logits.cols == n_vocab()));
  }

  // A page is at one place of each sequence that has it, and of several sequences below what they compute.
  static void CheckSharing(const BatchStep& step) {
    struct Use {
      size_t index;
      bool written;
    };
    std::map<KvPage, Use> uses;
    for (const SequenceSlice& slice : step.slices) {
      std::set<KvPage> own;
      for (size_t i = 0; i < slice.pages.size(); ++i) {
        TC_CHECK(own.insert(slice.pages[i]).second);
        const bool written = static_cast<int64_t>(i) >= slice.first_position / kKvPageTokens;
        const auto [use, is_new] = uses.try_emplace(slice.pages[i], Use{i, written});
        TC_CHECK(is_new || (use->second.index == i && !use->second.written && !written));
      }
    }
  }

  // Checks the context, writes the slice, and gives the hash of the text up to its end.
  uint64_t Compute(const SequenceSlice& slice, StepKind kind, const TokenId* tokens) {
    uint64_t text = 0;
    for (int64_t position = 0; position < slice.first_position; ++position) {
      const Cell& cell = CellAt(slice, position);
      text = TextOf(text, cell.token, cell.how);
      TC_CHECK(cell.position == position && cell.text == text);
    }
    const uint64_t how = kind == StepKind::kPrefill ? 0 : static_cast<uint64_t>(slice.quality);
    for (int64_t i = 0; i < slice.n_tokens; ++i) {
      const int64_t position = slice.first_position + i;
      text = TextOf(text, tokens[i], how);
      CellAt(slice, position) = {.position = position, .token = tokens[i], .how = how, .text = text};
    }
    return text;
  }

  void Record(const BatchStep& step) {
    Quality most = Quality::kFast;
    for (const SequenceSlice& slice : step.slices) {
      most = std::min(most, slice.quality);
      if (step.kind == StepKind::kDecode) decode_qualities_.push_back(slice.quality);
    }
    last_step_ = FiguresOf(step.kind, most);
    steps_.push_back({.kind = step.kind,
                      .n_tokens = static_cast<int64_t>(step.tokens.size()),
                      .n_slices = static_cast<int64_t>(step.slices.size())});
    AddExecution();
  }

  void FillLogits(TokenId last, uint64_t text, std::span<float> logits) const {
    const bool nan = last == nan_after_;
    std::ranges::fill(logits, nan ? std::numeric_limits<float>::quiet_NaN() : kOtherLogit);
    if (nan) return;
    if (depends_on_context_) {
      SplitMix64 random(text);
      for (char letter = 'a'; letter <= 'z'; ++letter)
        logits[static_cast<size_t>(PuppetTokenizer::IdOf(letter))] =
            kSecondLogit + static_cast<float>(random.Uniform()) * (kBestLogit - kSecondLogit);
      logits[PuppetTokenizer::kEos] = static_cast<float>(random.Uniform()) * kBestLogit;
      return;
    }
    const auto best = static_cast<size_t>(NextOf(last));
    logits[best] = kBestLogit;
    logits[(best + 1) % logits.size()] = kSecondLogit;
  }

  // Of one operator on each of two devices.
  static void TellOperators(OperatorObserver& observer) {
    OperatorGraph graph;
    graph.Add({.name = "attention", .layer = 0, .work = [] {}});
    graph.Add({.name = "neurons", .layer = 0, .device = 1, .work = [] {}, .prerequisites = {0}});
    const auto now = std::chrono::steady_clock::now();
    const OperatorTiming timing{.ready = now, .begin = now, .end = now};
    observer.OnRun(graph, std::vector<OperatorTiming>(2, timing));
  }

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
    execution_stats_.layer_seconds = {{0.5 * static_cast<double>(execution_stats_.steps)},
                                      {0, 0.25 * static_cast<double>(execution_stats_.steps)}};
    execution_stats_.link_bytes += 100;
  }

  TokenId NextOf(TokenId last) const {
    if (const auto scripted = next_.find(last); scripted != next_.end()) return scripted->second;
    constexpr TokenId kA = PuppetTokenizer::IdOf('a');
    constexpr TokenId kZ = PuppetTokenizer::IdOf('z');
    return last >= kA && last < kZ ? last + 1 : kA;
  }

  const int64_t context_length_;
  const int64_t max_step_tokens_;
  const int64_t n_kv_pages_;
  const bool predicts_;
  ExecutionStats execution_stats_;  // the scheduler's thread's
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // All guarded by mutex_.
  std::vector<Cell> cells_;  // (n_kv_pages, kKvPageTokens)
  std::map<TokenId, TokenId> next_;
  bool depends_on_context_ = false;
  TokenId nan_after_ = -1;
  TokenId fail_after_ = -1;
  absl::Status failure_;
  StepFigures last_step_;
  std::vector<StepRecord> steps_;
  std::vector<Quality> decode_qualities_;
  std::vector<int64_t> audited_positions_;
  int64_t hold_at_ = kNever;
  int64_t lose_at_ = kNever;
  int64_t calls_ = 0;
  bool held_ = false;
};

}  // namespace thermocline::testing
