// Requests together are what each is alone, whatever comes, goes, shares pages or loses them.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/batcher.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/support/puppet_runner.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/recorder.h"

namespace thermocline {
namespace {

using testing::PuppetRunner;
using testing::PuppetTokenizer;
using testing::Recorder;
using TimePoint = Batcher::TimePoint;
using std::chrono::milliseconds;

constexpr int64_t kContext = 96;

struct BenchSetup {
  int64_t n_pages = 100;
  int64_t max_step_tokens = 16;
  int64_t max_running = 64;
  int64_t audit_every = 0;
  bool predicts = true;
};

// A batcher over a puppet whose logits depend on the whole context, the queue in front of it, and a clock
// that goes as told. Pages are checked after every step.
class Bench {
 public:
  explicit Bench(const BenchSetup& setup, uint64_t clock_seed = 1)
      : runner_(kContext, setup.max_step_tokens, setup.predicts, setup.n_pages),
        clock_(clock_seed),
        batcher_(runner_, setup.max_running, setup.audit_every, [this] { return Now(); }) {
    runner_.DependOnContext();
  }

  struct Job {
    std::shared_ptr<Sequence> sequence;
    std::shared_ptr<Recorder> recorder = std::make_shared<Recorder>();
  };
  Job Submit(CompletionRequest request) {
    Job job;
    const RequestLimits limits{batcher_.context_length(), runner_.n_vocab(), runner_.predicts()};
    EXPECT_TRUE(ValidateRequest(request, limits).ok()) << ValidateRequest(request, limits);
    job.sequence = std::make_shared<Sequence>(next_handle_++, std::move(request), job.recorder, tokenizer_,
                                              limits, now_);
    waiting_.push_back(job.sequence);
    return job;
  }

  // Like the scheduler's turn. False when there was nothing to do.
  bool Turn() {
    batcher_.EndInterrupted();
    while (!waiting_.empty() && batcher_.TryAdmit(waiting_.front())) waiting_.pop_front();
    Settle();
    const bool busy = !batcher_.empty();
    lost_ = batcher_.Step();
    const absl::Status integrity = batcher_.CheckIntegrity();
    EXPECT_TRUE(integrity.ok()) << integrity;
    Settle();
    return busy;
  }
  void RunAll() {
    while (Turn()) {
    }
    EXPECT_TRUE(waiting_.empty());
    EXPECT_EQ(batcher_.pages().n_held(), 0);
  }
  absl::StatusOr<CompletionSummary> Complete(CompletionRequest request, std::string* text = nullptr) {
    const Job job = Submit(std::move(request));
    RunAll();
    if (text != nullptr) *text = job.recorder->text;
    return job.recorder->Wait();
  }

  Batcher& batcher() { return batcher_; }
  PuppetRunner& runner() { return runner_; }
  const absl::Status& lost() const { return lost_; }
  TimePoint now() const { return now_; }

 private:
  // Steps take any time, so that chunks have any size.
  TimePoint Now() { return now_ += milliseconds(clock_.Next() % 4); }

  void Settle() {
    std::vector<std::shared_ptr<Sequence>> preempted;
    batcher_.TakePreempted(preempted);
    for (auto& sequence : preempted) waiting_.push_front(std::move(sequence));
    std::vector<EndedSequence> ended;
    batcher_.TakeEnded(ended);
    for (EndedSequence& end : ended) {
      Sequence& sequence = *end.sequence;
      if (end.status.ok()) {
        sequence.observer->OnFinish(sequence.completion.Finish());
      } else {
        sequence.observer->OnFinish(end.status);
      }
    }
  }

  PuppetTokenizer tokenizer_;
  PuppetRunner runner_;
  SplitMix64 clock_;
  TimePoint now_{std::chrono::hours(1)};
  Batcher batcher_;
  std::deque<std::shared_ptr<Sequence>> waiting_;
  RequestHandle next_handle_ = 1;
  absl::Status lost_ = absl::OkStatus();
};

CompletionRequest Prompt(std::string_view text, int64_t max_tokens, Quality quality = Quality::kExact) {
  CompletionRequest request;
  request.prompt = PuppetTokenizer::IdsOf(text);
  request.stopping = {.max_tokens = max_tokens, .ignore_eos = true};
  request.sampling.seed = 1;
  request.quality = quality;
  return request;
}

// Prompts that begin alike, of any length, and every way to sample and to stop.
CompletionRequest RandomRequest(SplitMix64& random) {
  const auto pick = [&](uint64_t n) { return static_cast<int64_t>(random.Next() % n); };
  static constexpr std::string_view kBeginnings[] = {
      "the quick brown fox jumps over the lazy dog and runs away", "the quick brown fox sleeps all day long",
      ""};
  std::string text(kBeginnings[pick(3)]);
  text.resize(static_cast<size_t>(pick(static_cast<uint64_t>(text.size() + 1))));
  for (int64_t i = 0, n = 1 + pick(8); i < n; ++i) text += static_cast<char>('a' + pick(3));
  CompletionRequest request =
      Prompt(text, 1 + pick(static_cast<uint64_t>(kContext) - text.size()), static_cast<Quality>(pick(3)));
  request.stopping.ignore_eos = pick(2) == 0;
  request.echo = pick(4) == 0;
  request.top_logprobs = pick(4) == 0 ? 2 : 0;
  request.sampling.seed = random.Next();
  if (pick(2) == 0) request.sampling.temperature = 1;
  if (pick(3) == 0) request.sampling.repetition_penalty = 1.3;
  if (pick(3) == 0) request.sampling.frequency_penalty = 0.5;
  if (pick(4) == 0) request.sampling.top_k = 4;
  if (pick(4) == 0) request.stopping.stop = {"a", "qu"};
  return request;
}

struct Answer {
  std::string text;
  std::vector<TokenId> tokens;
  CompletionSummary summary;
};

Answer Alone(CompletionRequest request) {
  request.deadline.reset();
  Bench bench({.n_pages = 100, .max_step_tokens = kContext});
  const Bench::Job job = bench.Submit(request);
  bench.RunAll();
  return {job.recorder->text, job.recorder->token_ids, *job.recorder->Wait()};
}

TEST(Batcher, ManyAreWhatEachIsAlone) {
  BatchCounts all;
  uint64_t audits = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SplitMix64 random(seed);
    const BenchSetup setup{.n_pages = PagesFor(kContext) + static_cast<int64_t>(random.Next() % 10),
                           .max_step_tokens = 3 + static_cast<int64_t>(random.Next() % 30),
                           .max_running = 1 + static_cast<int64_t>(random.Next() % 12),
                           .audit_every = static_cast<int64_t>(random.Next() % 4)};
    Bench bench(setup, seed);
    struct Expected {
      CompletionRequest request;
      Bench::Job job;
      bool disturbed = false;  // cancelled, or has a deadline
    };
    std::vector<Expected> jobs;
    for (bool busy = true; busy || jobs.size() < 24;) {
      if (jobs.size() < 24 && random.Next() % 2 == 0) {
        Expected job{.request = RandomRequest(random)};
        if (random.Next() % 8 == 0) {
          job.request.deadline = bench.now() + milliseconds(random.Next() % 100);
          job.disturbed = true;
        }
        job.job = bench.Submit(job.request);
        jobs.push_back(std::move(job));
      }
      if (!jobs.empty() && random.Next() % 12 == 0) {
        Expected& job = jobs[random.Next() % jobs.size()];
        job.job.sequence->interrupt = Sequence::Interrupt::kCancel;
        job.disturbed = true;
      }
      busy = bench.Turn();
      ASSERT_LE(bench.batcher().n_running(), setup.max_running);
    }
    bench.RunAll();
    EXPECT_EQ(bench.batcher().pages().n_available(), setup.n_pages);

    for (const Expected& job : jobs) {
      const auto result = job.job.recorder->Wait();
      const Answer alone = Alone(job.request);
      if (!result.ok()) {
        ASSERT_TRUE(job.disturbed) << result.status();
        const std::vector<TokenId>& tokens = job.job.recorder->token_ids;
        ASSERT_LE(tokens.size(), alone.tokens.size());
        EXPECT_TRUE(std::ranges::equal(tokens, std::span(alone.tokens).first(tokens.size())));
        continue;
      }
      EXPECT_EQ(job.job.recorder->token_ids, alone.tokens) << seed;
      EXPECT_EQ(job.job.recorder->text, alone.text);
      EXPECT_EQ(result->finish_reason, alone.summary.finish_reason);
      EXPECT_EQ(result->matched_stop, alone.summary.matched_stop);
      EXPECT_EQ(result->decode_steps.tokens, alone.summary.decode_steps.tokens);
    }
    const BatchCounts& counts = bench.batcher().counts();
    all.preemptions += counts.preemptions;
    all.prefix_hit_tokens += counts.prefix_hit_tokens;
    audits += static_cast<uint64_t>(bench.batcher().step_counts().audits.tokens);
  }
  // What was meant to happen did.
  EXPECT_GT(all.preemptions, 30u);
  EXPECT_GT(all.prefix_hit_tokens, 1000u);
  EXPECT_GT(audits, 50u);
}

TEST(Batcher, ThePromptThatWasComputedIsNotComputedAgain) {
  Bench bench({});
  const std::string text(40, 'p');
  EXPECT_EQ(bench.Complete(Prompt(text, 3))->cached_tokens, 0);
  const size_t steps = bench.runner().steps().size();
  const CompletionSummary again = *bench.Complete(Prompt(text, 3));
  EXPECT_EQ(again.cached_tokens, 32);
  EXPECT_EQ(bench.runner().steps()[steps].n_tokens, 40 - 32);
  EXPECT_EQ(bench.Complete(Prompt(text + "and more", 3))->cached_tokens, 32);
  EXPECT_EQ(bench.Complete(Prompt(text.substr(0, 20), 3))->cached_tokens, 16);
  EXPECT_EQ(bench.batcher().counts().prefix_queried_tokens, 40u + 40 + 48 + 20);
  EXPECT_EQ(bench.batcher().counts().prefix_hit_tokens, 32u + 32 + 16);
}

TEST(Batcher, APromptThatIsWhollyCachedStillComputesItsLastToken) {
  Bench bench({});
  std::string first, second;
  EXPECT_TRUE(bench.Complete(Prompt(std::string(32, 'p'), 5), &first).ok());
  EXPECT_EQ(bench.Complete(Prompt(std::string(32, 'p'), 5), &second)->cached_tokens, 16);
  EXPECT_EQ(first, second);
}

// An answer becomes part of the next prompt of a conversation. Where neurons were left out of its tokens they
// are computed again.
TEST(Batcher, AnswersServeLaterPromptsWhereNothingWasLeftOut) {
  for (const Quality quality : {Quality::kExact, Quality::kBalanced}) {
    Bench bench({});
    const std::string prompt(20, 'p');
    const Bench::Job first = bench.Submit(Prompt(prompt, 40, quality));
    bench.RunAll();
    const std::vector<TokenId>& answer = first.recorder->token_ids;
    ASSERT_EQ(answer.size(), 40u);
    std::string text;
    CompletionRequest next = Prompt(prompt, 10);
    next.prompt.insert(next.prompt.end(), answer.begin(), answer.end());
    EXPECT_EQ(bench.Complete(next, &text)->cached_tokens, quality == Quality::kExact ? 48 : 16);
    EXPECT_EQ(text, Alone(next).text);
  }
}

TEST(Batcher, TheLastToComeLosesItsPagesToTheFirst) {
  // Pages for one whole context and a little more: two requests of 80 tokens cannot both end at once.
  Bench bench({.n_pages = 8, .max_step_tokens = 64});
  const CompletionRequest request[] = {Prompt(std::string(20, 'a'), 70, Quality::kFast),
                                       Prompt(std::string(20, 'b'), 70, Quality::kFast)};
  const Bench::Job first = bench.Submit(request[0]), second = bench.Submit(request[1]);
  while (bench.batcher().counts().preemptions == 0) ASSERT_TRUE(bench.Turn());
  EXPECT_EQ(bench.batcher().n_running(), 1);
  EXPECT_TRUE(second.sequence->pages.empty());
  EXPECT_FALSE(first.sequence->pages.empty());
  while (!first.recorder->ended()) ASSERT_TRUE(bench.Turn());
  EXPECT_FALSE(second.recorder->ended());
  bench.RunAll();
  EXPECT_EQ(first.recorder->text, Alone(request[0]).text);
  EXPECT_EQ(second.recorder->text, Alone(request[1]).text);
  // What was computed again is not counted again.
  EXPECT_EQ(second.recorder->Wait()->decode_steps.tokens, 69);
}

TEST(Batcher, ABadRequestDoesNotTakeItsCompanionsDown) {
  Bench bench({.max_step_tokens = 64});
  // Its prompt ends with a token that no other has.
  bench.runner().FailAfter(PuppetTokenizer::IdOf('!'), OutOfRange("too far"));
  const CompletionRequest good = Prompt("good", 20);
  const Bench::Job before = bench.Submit(good);
  bench.Turn();
  const Bench::Job companion = bench.Submit(Prompt("fine", 20)), bad = bench.Submit(Prompt("bad!", 20));
  bench.RunAll();
  EXPECT_TRUE(bench.lost().ok());
  EXPECT_EQ(bad.recorder->Wait().status(), OutOfRange("too far"));
  EXPECT_EQ(before.recorder->text, Alone(good).text);
  EXPECT_EQ(companion.recorder->text, Alone(Prompt("fine", 20)).text);
}

TEST(Batcher, LogitsThatAreNoNumbersEndTheirRequestAlone) {
  Bench bench({.max_step_tokens = 64});
  bench.runner().NanAfter(PuppetTokenizer::IdOf('!'));
  const Bench::Job good = bench.Submit(Prompt("good", 20)), bad = bench.Submit(Prompt("bad!", 20));
  bench.RunAll();
  const CompletionSummary summary = *bad.recorder->Wait();
  EXPECT_EQ(summary.finish_reason, FinishReason::kError);
  EXPECT_EQ(summary.completion_tokens, 0);
  EXPECT_EQ(good.recorder->text, Alone(Prompt("good", 20)).text);
}

TEST(Batcher, WhatLedToNoNumbersServesNobody) {
  Bench bench({.max_step_tokens = 8});
  const CompletionRequest request = Prompt(std::string(40, 'p') + "!", 20);
  bench.runner().NanAfter(PuppetTokenizer::IdOf('!'));
  EXPECT_EQ(bench.Complete(request)->finish_reason, FinishReason::kError);
  bench.runner().NanAfter(-1);
  EXPECT_EQ(bench.Complete(request)->cached_tokens, 0);
  EXPECT_EQ(bench.Complete(request)->cached_tokens, 32);
}

TEST(Batcher, ALostRunnerEndsEverything) {
  Bench bench({});
  const Bench::Job jobs[] = {bench.Submit(Prompt("one", 20)), bench.Submit(Prompt("two", 20))};
  bench.runner().LoseDeviceAt(5);
  while (bench.lost().ok()) ASSERT_TRUE(bench.Turn());
  EXPECT_TRUE(bench.batcher().empty());
  EXPECT_EQ(bench.batcher().pages().n_held(), 0);
  for (const Bench::Job& job : jobs) {
    EXPECT_EQ(job.recorder->Wait().status(),
              Unavailable("the model runner is lost: the puppet's device is lost"));
  }
}

TEST(Batcher, ASharedStepCountsItsNeuronsForEachAndItsBytesOnce) {
  Bench bench({.max_step_tokens = 64});
  // Two prompts in one step, then three decode steps of both.
  const Bench::Job a = bench.Submit(Prompt("a", 4)), b = bench.Submit(Prompt("b", 4));
  bench.RunAll();
  const StepFigures step = PuppetRunner::FiguresOf(StepKind::kDecode, Quality::kExact);
  const StepSums sums_a = a.recorder->Wait()->decode_steps, sums_b = b.recorder->Wait()->decode_steps;
  EXPECT_EQ(sums_a.tokens, 3);
  EXPECT_EQ(sums_a.total.marked_neurons, 3 * step.marked_neurons);
  EXPECT_EQ(sums_b.total.active_neurons, 3 * step.active_neurons);
  EXPECT_EQ(sums_a.total.bytes + sums_b.total.bytes, 3 * step.bytes);
  const StepCounts& counts = bench.batcher().step_counts();
  EXPECT_EQ(counts.decode_sums.tokens, 6);
  EXPECT_EQ(counts.decode_sums.total.bytes, 3 * step.bytes);
  EXPECT_EQ(counts.prefill_steps, 1u);
  EXPECT_EQ(counts.decode_steps, 3u);
  EXPECT_EQ(counts.last_requests, 2);
}

TEST(Batcher, ALongPromptComesInChunksBetweenDecodeSteps) {
  Bench bench({.max_step_tokens = 64});
  const Bench::Job decoding = bench.Submit(Prompt("a", 60));
  for (int i = 0; i < 4; ++i) bench.Turn();
  const size_t before = bench.runner().steps().size();
  bench.Submit(Prompt(std::string(80, 'b'), 2));
  bench.RunAll();
  const std::vector<PuppetRunner::StepRecord> steps = bench.runner().steps();
  int64_t prefilled = 0;
  for (size_t i = before; prefilled < 80; ++i) {
    ASSERT_LT(i, steps.size());
    if (steps[i].kind != StepKind::kPrefill) continue;
    prefilled += steps[i].n_tokens;
    EXPECT_EQ(steps[i - 1].kind, StepKind::kDecode);
  }
  EXPECT_EQ(prefilled, 80);
}

TEST(Batcher, SlotsBoundWhatRuns) {
  Bench bench({.max_step_tokens = 16, .max_running = 2});
  std::vector<Bench::Job> jobs;
  for (int i = 0; i < 5; ++i)
    jobs.push_back(bench.Submit(Prompt(std::string(1, static_cast<char>('a' + i)), 6)));
  bench.Turn();
  EXPECT_EQ(bench.batcher().n_running(), 2);
  bench.RunAll();
  for (const PuppetRunner::StepRecord& step : bench.runner().steps()) EXPECT_LE(step.n_slices, 2);
}

TEST(Batcher, TheContextIsWhatPagesHold) {
  Bench bench({.n_pages = 3});
  EXPECT_EQ(bench.batcher().context_length(), 48);
}

}  // namespace
}  // namespace thermocline
