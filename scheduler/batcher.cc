// Batcher.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/batcher.h"

#include <algorithm>
#include <utility>

#include "scheduler/request_trace.h"

namespace thermocline {

Batcher::Batcher(ModelRunner& runner, int64_t max_running, int64_t audit_every,
                 std::function<TimePoint()> now)
    : runner_(runner),
      max_running_(std::min(max_running, runner.max_step_tokens())),
      now_(std::move(now)),
      pool_(runner.n_kv_pages()),
      executor_(runner, max_running_, audit_every) {
  running_.reserve(static_cast<size_t>(max_running_));
  work_.reserve(static_cast<size_t>(max_running_));
}

int64_t Batcher::context_length() const {
  return std::min(runner_.context_length(), pool_.n_pages() * kKvPageTokens);
}

bool Batcher::TryAdmit(std::shared_ptr<Sequence> sequence) {
  if (n_running() >= max_running_) return false;
  Sequence& s = *sequence;
  const std::span<const TokenId> tokens = s.tokens;
  const auto n_tokens = static_cast<int64_t>(tokens.size());

  // The last token is computed in any case, since the next is sampled from its logits.
  const int64_t n_reusable = std::min(n_tokens - 1, s.n_publishable());
  pool_.AcquirePrefix(tokens.first(static_cast<size_t>(n_reusable)), s.pages);
  s.n_published = static_cast<int64_t>(s.pages.size());
  s.n_computed = s.n_published * kKvPageTokens;
  if (pool_.n_available() < PagesFor(n_tokens) - s.n_published + n_running()) {
    pool_.Release(s.pages);
    return false;
  }
  while (static_cast<int64_t>(s.pages.size()) < PagesFor(n_tokens)) s.pages.push_back(*pool_.Allocate());

  const TimePoint now = now_();
  s.EnterPhase("prefill", now);
  if (s.completion.Admit(now, s.n_computed)) {
    counts_.prefix_queried_tokens += static_cast<uint64_t>(n_tokens);
    counts_.prefix_hit_tokens += static_cast<uint64_t>(s.n_computed);
  }
  running_.push_back(std::move(sequence));
  return true;
}

void Batcher::EndInterrupted() {
  const TimePoint now = now_();
  std::erase_if(running_, [&](const std::shared_ptr<Sequence>& sequence) {
    absl::Status status = sequence->CheckInterrupt(now);
    if (status.ok() && !sequence->completion.TimeIsUp(now)) return false;
    End(sequence, std::move(status));
    return true;
  });
}

absl::Status Batcher::Step() {
  for (const std::shared_ptr<Sequence>& sequence : running_) sequence->completion.Echo();
  PlanNext();
  if (work_.empty()) return absl::OkStatus();
  const TimePoint begin = now_();
  const absl::Status lost = executor_.Execute(plan_.phase, work_);
  if (!lost.ok()) {
    for (std::shared_ptr<Sequence>& sequence : running_)
      End(std::move(sequence), Unavailable("the model runner is lost: {}", MessageOf(lost)));
    running_.clear();
    return lost;
  }
  TraceStep(begin);
  Complete();
  times_.Record(plan_.phase, step_counts().last_tokens,
                std::chrono::duration<double>(now_() - begin).count());
  return absl::OkStatus();
}

void Batcher::TraceStep(TimePoint begin) {
  for (const SliceWork& work : work_) {
    const Sequence& sequence = *work.sequence;
    if (!sequence.request.trace) continue;
    sequence.request.trace->AddStep({.phase = plan_.phase,
                                     .begin = begin,
                                     .end = now_(),
                                     .first_position = sequence.n_computed,
                                     .n_tokens = work.n_tokens,
                                     .step_requests = step_counts().last_requests,
                                     .step_tokens = step_counts().last_tokens,
                                     .audited = work.audited});
  }
}

void Batcher::PlanNext() {
  progress_.clear();
  for (const std::shared_ptr<Sequence>& sequence : running_) progress_.push_back(sequence->progress());
  PlanStep(progress_,
           {.max_tokens = runner_.max_step_tokens(),
            .prefill_chunk = times_.ChunkTokens(StepPhase::kPrefill),
            .replay_chunk = times_.ChunkTokens(StepPhase::kReplay)},
           plan_);
  work_.clear();
  for (const PlannedSlice& slice : plan_.slices) {
    if (slice.sequence >= running_.size()) break;  // lost its pages to one before it
    Sequence& sequence = *running_[slice.sequence];
    if (!GetPages(slice.sequence, sequence.n_computed + slice.n_tokens)) break;
    work_.push_back({.sequence = &sequence, .n_tokens = slice.n_tokens});
  }
}

bool Batcher::GetPages(size_t index, int64_t n_tokens) {
  std::vector<KvPage>& pages = running_[index]->pages;
  while (static_cast<int64_t>(pages.size()) < PagesFor(n_tokens)) {
    if (const std::optional<KvPage> page = pool_.Allocate()) {
      pages.push_back(*page);
      continue;
    }
    PreemptLast();
    if (index == running_.size()) return false;
  }
  return true;
}

void Batcher::PreemptLast() {
  Sequence& sequence = *running_.back();
  sequence.EnterPhase("queued", now_());
  pool_.Release(sequence.pages);
  sequence.n_computed = 0;
  sequence.n_published = 0;
  ++counts_.preemptions;
  preempted_.push_back(std::move(running_.back()));
  running_.pop_back();
}

void Batcher::Complete() {
  for (const SliceWork& work : work_) {
    if (work.status.ok()) Advance(work);
    if (work.status.ok() && !work.sequence->completion.done()) continue;
    const auto place = std::ranges::find(running_, work.sequence, &std::shared_ptr<Sequence>::get);
    End(std::move(*place), work.status);
    running_.erase(place);
  }
}

void Batcher::Advance(const SliceWork& work) {
  Sequence& sequence = *work.sequence;
  sequence.n_computed += work.n_tokens;
  if (work.logits.empty()) return;
  const TimePoint now = now_();
  sequence.EnterPhase("decode", now);
  const std::optional<TokenId> token = sequence.completion.Take(work.logits, now, scratch_);
  if (!token) return;
  // Only now: what led to logits that are no numbers must not lead other requests there.
  PublishPages(sequence);
  if (static_cast<int64_t>(sequence.tokens.size()) == sequence.n_prompt())
    counts_.prompt_tokens += static_cast<uint64_t>(sequence.n_prompt());
  sequence.tokens.push_back(*token);
  ++counts_.generated_tokens;
}

void Batcher::PublishPages(Sequence& sequence) {
  const int64_t end = std::min(sequence.n_computed, sequence.n_publishable()) / kKvPageTokens;
  for (int64_t& index = sequence.n_published; index < end; ++index) {
    const std::span<const TokenId> tokens(sequence.tokens);
    pool_.Publish(sequence.pages, static_cast<size_t>(index),
                  tokens.subspan(static_cast<size_t>(index * kKvPageTokens), kKvPageTokens));
  }
}

void Batcher::End(std::shared_ptr<Sequence> sequence, absl::Status status) {
  pool_.Release(sequence->pages);
  ended_.push_back({.sequence = std::move(sequence), .status = std::move(status)});
}

void Batcher::TakeEnded(std::vector<EndedSequence>& ended) {
  std::ranges::move(ended_, std::back_inserter(ended));
  ended_.clear();
}

void Batcher::TakePreempted(std::vector<std::shared_ptr<Sequence>>& preempted) {
  std::ranges::move(preempted_, std::back_inserter(preempted));
  preempted_.clear();
}

absl::Status Batcher::CheckIntegrity() const {
  std::vector<std::span<const KvPage>> holders;
  for (const std::shared_ptr<Sequence>& sequence : running_) holders.push_back(sequence->pages);
  return pool_.CheckIntegrity(holders);
}

}  // namespace thermocline
