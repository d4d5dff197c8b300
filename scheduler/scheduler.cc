// The queue, the scheduler's thread, and the life of one request.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "core/timer.h"
#include "scheduler/sampler.h"
#include "scheduler/stop_matcher.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

double MillisecondsBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

// Nearest-rank percentile; 0 when there are none.
double Percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

uint64_t RandomSeed() {
  std::random_device device;
  return (static_cast<uint64_t>(device()) << 32) | device();
}

}  // namespace

// One admitted request. The scheduler's thread owns everything but `interrupt`.
struct Scheduler::Sequence {
  enum class Interrupt { kNone, kCancel, kShutdown };

  Sequence(RequestHandle the_handle, CompletionRequest the_request,
           std::shared_ptr<CompletionObserver> the_observer)
      : handle(the_handle), request(std::move(the_request)), observer(std::move(the_observer)) {}

  const RequestHandle handle;
  const CompletionRequest request;
  const std::shared_ptr<CompletionObserver> observer;
  const Clock::time_point arrival = Clock::now();
  std::atomic<Interrupt> interrupt = Interrupt::kNone;

  // Why the request must end now; OK when it may go on.
  absl::Status CheckInterrupt() const {
    switch (interrupt.load(std::memory_order_relaxed)) {
      case Interrupt::kCancel:
        return Cancelled("the request was cancelled");
      case Interrupt::kShutdown:
        return Unavailable("the server is shutting down");
      case Interrupt::kNone:
        break;
    }
    if (request.deadline && Clock::now() >= *request.deadline)
      return DeadlineExceeded("the request's deadline has passed");
    return absl::OkStatus();
  }

  bool TimeIsUp() const {
    return request.stopping.time_limit && Clock::now() - arrival >= *request.stopping.time_limit;
  }
};

namespace {

// The text side of a completion: tokens to code points to what stop strings let through.
class TextStream {
 public:
  TextStream(const Tokenizer& tokenizer, const StoppingOptions& stopping, bool at_start)
      : decoder_(tokenizer, at_start), matcher_(stopping.stop, stopping.include_stop) {}

  std::string PushPrompt(std::span<const TokenId> tokens) {
    std::string text;
    for (const TokenId token : tokens) text += decoder_.Push(token);
    return text;
  }
  // `may_stop`: whether stop strings count yet.
  std::string Push(TokenId token, bool may_stop) {
    std::string text = decoder_.Push(token);
    return may_stop ? matcher_.Push(text) : text;
  }
  std::string Finish() {
    if (matcher_.stopped()) return "";
    std::string text = matcher_.Push(decoder_.Flush());
    return matcher_.stopped() ? text : text + matcher_.Flush();
  }
  bool stopped() const { return matcher_.stopped(); }
  const std::string& matched() const { return matcher_.matched(); }

 private:
  IncrementalDecoder decoder_;
  StopMatcher matcher_;
};

// When tokens came out.
class TokenClock {
 public:
  explicit TokenClock(Clock::time_point arrival) : arrival_(arrival) {}

  void Tick() {
    const Clock::time_point now = Clock::now();
    if (count_++ == 0) {
      first_ = now;
    } else {
      gaps_ms_.push_back(MillisecondsBetween(last_, now));
    }
    last_ = now;
  }
  void Report(CompletionTimings& timings) {
    if (count_ == 0) return;
    timings.time_to_first_token_ms = MillisecondsBetween(arrival_, first_);
    timings.decode_ms = MillisecondsBetween(first_, last_);
    timings.inter_token_p50_ms = Percentile(gaps_ms_, 0.50);
    timings.inter_token_p99_ms = Percentile(gaps_ms_, 0.99);
  }

 private:
  Clock::time_point arrival_, first_, last_;
  int64_t count_ = 0;
  std::vector<double> gaps_ms_;
};

}  // namespace

Scheduler::Scheduler(ModelRunner& runner, const Tokenizer& tokenizer, SchedulerOptions options)
    : runner_(runner), tokenizer_(tokenizer), options_(options), thread_([this] { Loop(); }) {}

Scheduler::~Scheduler() {
  Drain(std::chrono::milliseconds(0));
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_or_stop_.notify_all();
  thread_.join();
}

absl::StatusOr<RequestHandle> Scheduler::Submit(CompletionRequest request,
                                                std::shared_ptr<CompletionObserver> observer) {
  TC_RETURN_IF_ERROR(ValidateRequest(request, limits()));
  std::lock_guard lock(mutex_);
  if (draining_) return Unavailable("the server is shutting down");
  if (static_cast<int64_t>(waiting_.size()) >= options_.max_queued_requests) {
    return ResourceExhausted("the queue is full: {} requests wait, the limit is {}", waiting_.size(),
                             options_.max_queued_requests);
  }
  const RequestHandle handle = next_handle_++;
  if (request.id.empty()) request.id = fmt::format("request-{}", handle);
  waiting_.push_back(std::make_shared<Sequence>(handle, std::move(request), std::move(observer)));
  work_or_stop_.notify_one();
  return handle;
}

void Scheduler::Cancel(RequestHandle handle) {
  std::shared_ptr<Sequence> withdrawn;
  {
    std::lock_guard lock(mutex_);
    if (running_ && running_->handle == handle) {
      running_->interrupt = Sequence::Interrupt::kCancel;
      return;
    }
    const auto found =
        std::ranges::find(waiting_, handle, [](const auto& sequence) { return sequence->handle; });
    if (found == waiting_.end()) return;
    withdrawn = std::move(*found);
    waiting_.erase(found);
    ++finished_;
    if (waiting_.empty() && !busy_) idle_.notify_all();
  }
  withdrawn->observer->OnFinish(Cancelled("the request was cancelled"));
}

bool Scheduler::Drain(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto idle = [this] { return waiting_.empty() && !busy_; };
  if (idle_.wait_for(lock, timeout, idle)) return true;
  for (const auto& sequence : waiting_) sequence->interrupt = Sequence::Interrupt::kShutdown;
  if (running_) running_->interrupt = Sequence::Interrupt::kShutdown;
  idle_.wait(lock, idle);
  return false;
}

SchedulerStats Scheduler::stats() const {
  std::lock_guard lock(mutex_);
  return {.running = running_ != nullptr ? 1 : 0,
          .waiting = static_cast<int64_t>(waiting_.size()),
          .finished = finished_,
          .generated_tokens = generated_tokens_,
          .decode_steps = decode_steps_,
          .audits = audits_,
          .execution = execution_};
}

void Scheduler::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_or_stop_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    running_ = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ = true;
    const std::shared_ptr<Sequence> sequence = running_;
    lock.unlock();

    absl::StatusOr<CompletionSummary> result = Complete(*sequence);

    // The slot is free before the observer hears of it, so that a client that was answered finds room.
    lock.lock();
    running_ = nullptr;
    ++finished_;
    lock.unlock();
    sequence->observer->OnFinish(std::move(result));
    lock.lock();
    busy_ = false;
    if (waiting_.empty()) idle_.notify_all();
  }
}

bool Scheduler::AuditIsDue(const StepInput& step) {
  if (options_.audit_every == 0 || step.kind != StepKind::kDecode || step.quality == Quality::kExact)
    return false;
  return ++auditable_steps_ % options_.audit_every == 0;
}

absl::Status Scheduler::Step(const StepInput& step, std::span<float> logits, StepSums& decode_steps) {
  std::optional<AuditFigures> audit;
  if (AuditIsDue(step)) {
    TC_ASSIGN_OR_RETURN(audit, runner_.ForwardAudited(step, logits));
  } else {
    TC_RETURN_IF_ERROR(runner_.Forward(step, logits));
  }
  const StepFigures figures = runner_.last_step();
  if (step.kind == StepKind::kDecode) decode_steps.Add(figures);
  const std::lock_guard lock(mutex_);
  if (step.kind == StepKind::kDecode) decode_steps_.Add(figures);
  if (audit) audits_.Add(*audit);
  execution_ = runner_.execution_stats();  // here, since only this thread may ask the runner
  return absl::OkStatus();
}

absl::StatusOr<CompletionSummary> Scheduler::Complete(Sequence& sequence) {
  const CompletionRequest& request = sequence.request;
  const StoppingOptions& stopping = request.stopping;
  TC_RETURN_IF_ERROR(sequence.CheckInterrupt());

  CompletionSummary summary;
  summary.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  summary.seed = request.sampling.seed.value_or(RandomSeed());
  summary.quality = request.quality.value_or(DefaultQuality(runner_.predicts()));
  summary.timings.queue_ms = MillisecondsBetween(sequence.arrival, Clock::now());

  TextStream text(tokenizer_, stopping, /*at_start=*/request.echo);
  if (request.echo) sequence.observer->OnDelta({.text = text.PushPrompt(request.prompt)});

  // Prefill: the prompt in blocks.
  std::vector<float> logits(static_cast<size_t>(runner_.n_vocab()));
  const Stopwatch prefill;
  int64_t position = 0;
  while (position < summary.prompt_tokens) {
    TC_RETURN_IF_ERROR(sequence.CheckInterrupt());
    if (sequence.TimeIsUp()) {
      summary.finish_reason = FinishReason::kTimeLimit;
      return summary;
    }
    const int64_t count = std::min(runner_.max_step_tokens(), summary.prompt_tokens - position);
    const auto block =
        std::span(request.prompt).subspan(static_cast<size_t>(position), static_cast<size_t>(count));
    TC_RETURN_IF_ERROR(Step({.tokens = block, .first_position = position, .kind = StepKind::kPrefill}, logits,
                            summary.decode_steps));
    position += count;
  }
  summary.timings.prefill_ms = prefill.Milliseconds();

  // Decode: sample, give out, step.
  const int64_t room = runner_.context_length() - summary.prompt_tokens;
  const int64_t max_tokens = std::min(stopping.max_tokens.value_or(room), room);
  const std::span<const TokenId> end_tokens = tokenizer_.end_tokens();
  SplitMix64 random(summary.seed);
  TokenHistory history;
  history.AddPrompt(request.prompt);
  SamplerScratch scratch;
  TokenClock token_clock(sequence.arrival);

  while (summary.finish_reason == FinishReason::kUnspecified) {
    const bool may_stop = summary.completion_tokens + 1 > stopping.min_tokens;
    const std::span<const TokenId> banned = may_stop ? std::span<const TokenId>() : end_tokens;
    const std::optional<TokenId> token =
        SampleToken(logits, request.sampling, history, banned, random, scratch);
    if (!token) {
      summary.finish_reason = FinishReason::kError;
      break;
    }
    history.AddGenerated(*token);
    token_clock.Tick();
    ++summary.completion_tokens;
    ++generated_tokens_;

    CompletionDelta delta;
    delta.token_ids = {*token};
    if (request.logprobs || request.top_logprobs > 0) {
      delta.logprobs.push_back(LogprobOf(logits, *token, request.top_logprobs));
    }
    const bool is_end =
        !stopping.ignore_eos && std::find(end_tokens.begin(), end_tokens.end(), *token) != end_tokens.end();
    if (!is_end) delta.text = text.Push(*token, may_stop);
    if (is_end) {
      summary.finish_reason = FinishReason::kEndToken;
    } else if (text.stopped()) {
      summary.finish_reason = FinishReason::kStopString;
    } else if (summary.completion_tokens >= max_tokens) {
      summary.finish_reason = FinishReason::kLength;
    } else if (sequence.TimeIsUp()) {
      summary.finish_reason = FinishReason::kTimeLimit;
    }
    sequence.observer->OnDelta(std::move(delta));

    if (summary.finish_reason == FinishReason::kUnspecified) {
      TC_RETURN_IF_ERROR(sequence.CheckInterrupt());
      const StepInput step{.tokens = {&*token, 1}, .first_position = position++, .quality = summary.quality};
      TC_RETURN_IF_ERROR(Step(step, logits, summary.decode_steps));
    }
  }

  if (std::string rest = text.Finish(); !rest.empty()) {
    sequence.observer->OnDelta({.text = std::move(rest)});
  }
  // Held-back text may complete a stop string only now.
  if (text.stopped() && summary.finish_reason != FinishReason::kError)
    summary.finish_reason = FinishReason::kStopString;
  summary.matched_stop = text.matched();
  token_clock.Report(summary.timings);
  return summary;
}

}  // namespace thermocline
