// The life of requests, driven by a puppet model that continues the alphabet.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "core/random.h"
#include "tests/support/puppet_runner.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/recorder.h"

namespace thermocline {
namespace {

using testing::PuppetRunner;
using testing::PuppetTokenizer;
using testing::Recorder;
using namespace std::chrono_literals;

CompletionRequest Prompt(std::string_view text, int64_t max_tokens = 5) {
  CompletionRequest request;
  request.prompt = PuppetTokenizer::IdsOf(text);
  request.stopping.max_tokens = max_tokens;
  return request;
}

class SchedulerTest : public ::testing::Test {
 protected:
  // Submits and waits.
  absl::StatusOr<CompletionSummary> Complete(CompletionRequest request) {
    recorder_ = std::make_shared<Recorder>();
    TC_RETURN_IF_ERROR(scheduler_.Submit(std::move(request), recorder_).status());
    return recorder_->Wait();
  }

  PuppetTokenizer tokenizer_;
  PuppetRunner runner_{/*context_length=*/64, /*max_step_tokens=*/4};
  Scheduler scheduler_{runner_, tokenizer_, {.max_queued_requests = 2}};
  std::shared_ptr<Recorder> recorder_;
};

TEST_F(SchedulerTest, CompletesThePrompt) {
  const CompletionSummary summary = *Complete(Prompt("abc"));
  EXPECT_EQ(recorder_->text, "defgh");
  EXPECT_EQ(recorder_->token_ids, PuppetTokenizer::IdsOf("defgh"));
  EXPECT_EQ(summary.finish_reason, FinishReason::kLength);
  EXPECT_EQ(summary.prompt_tokens, 3);
  EXPECT_EQ(summary.completion_tokens, 5);
  EXPECT_EQ(runner_.forward_calls(), 1 + 4);  // one block of prompt; the last token needs no step
}

TEST_F(SchedulerTest, LongPromptsArePrefilledInBlocks) {
  ASSERT_TRUE(Complete(Prompt("aaaaaaaaab", 1)).ok());
  EXPECT_EQ(recorder_->text, "c");
  EXPECT_EQ(runner_.forward_calls(), 3);  // 4 + 4 + 2 tokens
}

TEST_F(SchedulerTest, EndsAtTheEndTokenUnlessToldNotTo) {
  runner_.Follow(PuppetTokenizer::IdOf('d'), PuppetTokenizer::kEos);
  CompletionRequest request = Prompt("b");
  EXPECT_EQ(Complete(request)->finish_reason, FinishReason::kEndToken);
  EXPECT_EQ(recorder_->text, "cd");
  EXPECT_EQ(recorder_->token_ids.back(), PuppetTokenizer::kEos);

  request.stopping.ignore_eos = true;
  EXPECT_EQ(Complete(request)->finish_reason, FinishReason::kLength);
  EXPECT_EQ(recorder_->token_ids.size(), 5u);
}

TEST_F(SchedulerTest, NoEndTokenBeforeMinTokens) {
  runner_.Follow(PuppetTokenizer::IdOf('c'), PuppetTokenizer::kEos);
  CompletionRequest request = Prompt("b");
  request.stopping.min_tokens = 3;
  EXPECT_EQ(Complete(request)->finish_reason, FinishReason::kLength);
  // After c the end is not allowed, and the second likeliest (one id above it, the byte 0) comes.
  EXPECT_EQ(recorder_->token_ids[1], PuppetTokenizer::kEos + 1);
}

TEST_F(SchedulerTest, StopStringsEndTheTextAndStayOutOfIt) {
  CompletionRequest request = Prompt("a", 30);
  request.stopping.stop = {"xyz", "ef"};
  const CompletionSummary summary = *Complete(request);
  EXPECT_EQ(recorder_->text, "bcd");
  EXPECT_EQ(summary.finish_reason, FinishReason::kStopString);
  EXPECT_EQ(summary.matched_stop, "ef");

  request.stopping.include_stop = true;
  ASSERT_TRUE(Complete(request).ok());
  EXPECT_EQ(recorder_->text, "bcdef");

  request.stopping.min_tokens = 10;
  EXPECT_EQ(Complete(request)->matched_stop, "xyz");
}

TEST_F(SchedulerTest, TextHeldForAStopStringComesAtTheEnd) {
  CompletionRequest request = Prompt("a", 4);
  request.stopping.stop = {"defgh"};
  EXPECT_EQ(Complete(request)->finish_reason, FinishReason::kLength);
  EXPECT_EQ(recorder_->text, "bcde");
}

TEST_F(SchedulerTest, TheContextEndsACompletion) {
  CompletionRequest request = Prompt(std::string(60, 'a'));
  request.stopping.max_tokens.reset();
  const CompletionSummary summary = *Complete(request);
  EXPECT_EQ(summary.finish_reason, FinishReason::kLength);
  EXPECT_EQ(summary.completion_tokens, 4);
}

TEST_F(SchedulerTest, EchoAndLogprobs) {
  CompletionRequest request = Prompt("abc", 2);
  request.echo = true;
  request.top_logprobs = 2;
  ASSERT_TRUE(Complete(request).ok());
  EXPECT_EQ(recorder_->text, "abcde");
  ASSERT_EQ(recorder_->logprobs.size(), 2u);
  EXPECT_EQ(recorder_->logprobs[0].id, PuppetTokenizer::IdOf('d'));
  EXPECT_EQ(recorder_->logprobs[0].top[0].first, PuppetTokenizer::IdOf('d'));
  EXPECT_EQ(recorder_->logprobs[0].top[1].first, PuppetTokenizer::IdOf('e'));
  EXPECT_LT(recorder_->logprobs[0].logprob, 0);
}

TEST_F(SchedulerTest, TheReportedSeedReproducesTheTokens) {
  CompletionRequest request = Prompt("a", 20);
  request.sampling.temperature = 5;
  const CompletionSummary first = *Complete(request);
  const std::vector<TokenId> tokens = recorder_->token_ids;
  request.sampling.seed = first.seed;
  EXPECT_EQ(Complete(request)->seed, first.seed);
  EXPECT_EQ(recorder_->token_ids, tokens);
}

TEST_F(SchedulerTest, NanLogitsEndWithErrorAndAreNotSampled) {
  runner_.NanAfter(PuppetTokenizer::IdOf('c'));
  const CompletionSummary summary = *Complete(Prompt("a"));
  EXPECT_EQ(summary.finish_reason, FinishReason::kError);
  EXPECT_EQ(recorder_->text, "bc");
  EXPECT_EQ(summary.completion_tokens, 2);
}

TEST_F(SchedulerTest, ARunnersFailureIsTheRequestsAndTheNextOneSucceeds) {
  runner_.FailAfter(PuppetTokenizer::IdOf('c'), Internal("device lost"));
  EXPECT_EQ(Complete(Prompt("a")).status(), Internal("device lost"));
  EXPECT_TRUE(Complete(Prompt("d")).ok());
}

TEST_F(SchedulerTest, RefusalsNeverReachTheObserver) {
  EXPECT_EQ(FieldOf(Complete(Prompt("")).status()), "prompt");
  EXPECT_EQ(FieldOf(Complete(Prompt(std::string(64, 'a'))).status()), "prompt");
  EXPECT_EQ(runner_.forward_calls(), 0);
}

TEST_F(SchedulerTest, CancelStopsWithinOneStepInPrefillAndDecode) {
  for (const int64_t step : {1, 5}) {  // the first block of the prompt; a decode step
    const int64_t held = runner_.forward_calls() + step;
    runner_.HoldAt(held);
    const auto recorder = std::make_shared<Recorder>();
    const RequestHandle handle = *scheduler_.Submit(Prompt("aaaaaaaa", 30), recorder);
    runner_.WaitUntilHeld();
    scheduler_.Cancel(handle);
    runner_.Release();
    EXPECT_EQ(recorder->Wait().status().code(), absl::StatusCode::kCancelled);
    EXPECT_EQ(runner_.forward_calls(), held);
  }
  EXPECT_EQ(scheduler_.stats().running, 0);
}

TEST_F(SchedulerTest, AWaitingRequestIsCancelledAtOnceAndFreesItsPlace) {
  runner_.HoldAt(1);
  const auto running = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler_.Submit(Prompt("a"), running).ok());
  runner_.WaitUntilHeld();
  const RequestHandle handle = *scheduler_.Submit(Prompt("b"), waiting);
  EXPECT_EQ(scheduler_.stats().waiting, 1);
  scheduler_.Cancel(handle);
  EXPECT_EQ(waiting->Wait().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(scheduler_.stats().waiting, 0);
  runner_.Release();
  EXPECT_TRUE(running->Wait().ok());
  EXPECT_EQ(running->text, "bcdef");
}

TEST_F(SchedulerTest, AFullQueueRefuses) {
  runner_.HoldAt(1);
  std::vector<std::shared_ptr<Recorder>> admitted;
  const auto submit = [&] {
    auto recorder = std::make_shared<Recorder>();
    const absl::Status status = scheduler_.Submit(Prompt("a"), recorder).status();
    if (status.ok()) admitted.push_back(std::move(recorder));
    return status;
  };
  ASSERT_TRUE(submit().ok());
  runner_.WaitUntilHeld();
  ASSERT_TRUE(submit().ok());
  ASSERT_TRUE(submit().ok());
  const absl::Status refused = submit();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MessageOf(refused), "the queue is full: 2 requests wait, the limit is 2");
  EXPECT_TRUE(RetryDelayOf(refused).has_value());
  runner_.Release();
  for (const auto& recorder : admitted) EXPECT_EQ(recorder->Wait()->completion_tokens, 5);
}

TEST_F(SchedulerTest, APassedDeadlineEndsARequestWithoutAStep) {
  CompletionRequest request = Prompt("a");
  request.deadline = std::chrono::steady_clock::now() - 1ms;
  EXPECT_EQ(Complete(request).status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(runner_.forward_calls(), 0);
}

TEST_F(SchedulerTest, ADeadlineThatPassesWhileDecodingEndsTheRequest) {
  runner_.HoldAt(3);
  CompletionRequest request = Prompt("a", 30);
  request.deadline = std::chrono::steady_clock::now() + 20ms;
  const auto recorder = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler_.Submit(request, recorder).ok());
  std::this_thread::sleep_until(*request.deadline + 1ms);
  runner_.Release();
  EXPECT_EQ(recorder->Wait().status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(SchedulerTest, ATimeLimitKeepsWhatWasSaid) {
  runner_.HoldAt(3);
  CompletionRequest request = Prompt("a", 30);
  request.stopping.time_limit = 20ms;
  const auto recorder = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler_.Submit(request, recorder).ok());
  std::this_thread::sleep_for(21ms);
  runner_.Release();
  EXPECT_EQ(recorder->Wait()->finish_reason, FinishReason::kTimeLimit);
  EXPECT_TRUE(std::string_view("bcd").starts_with(recorder->text)) << recorder->text;
}

TEST_F(SchedulerTest, DrainFinishesWhatWasAdmittedAndRefusesTheRest) {
  runner_.HoldAt(2);
  const auto running = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler_.Submit(Prompt("a"), running).ok());
  runner_.WaitUntilHeld();
  ASSERT_TRUE(scheduler_.Submit(Prompt("k"), waiting).ok());
  auto drained = std::async(std::launch::async, [&] { return scheduler_.Drain(10min); });
  while (scheduler_.Submit(Prompt("z"), std::make_shared<Recorder>()).status().code() !=
         absl::StatusCode::kUnavailable) {
    std::this_thread::yield();
  }
  runner_.Release();
  EXPECT_TRUE(drained.get());
  EXPECT_EQ(running->Wait()->completion_tokens, 5);
  EXPECT_EQ(waiting->Wait()->completion_tokens, 5);
}

TEST_F(SchedulerTest, DrainCancelsWhatOutlastsTheTimeout) {
  runner_.HoldAt(2);
  const auto running = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler_.Submit(Prompt("a", 30), running).ok());
  runner_.WaitUntilHeld();
  ASSERT_TRUE(scheduler_.Submit(Prompt("k"), waiting).ok());
  auto drained = std::async(std::launch::async, [&] { return scheduler_.Drain(1ms); });
  // The running request is interrupted before its held step returns, or right after a later one.
  std::this_thread::sleep_for(20ms);
  runner_.Release();
  EXPECT_FALSE(drained.get());
  EXPECT_EQ(running->Wait().status(), Unavailable("the server is shutting down"));
  EXPECT_EQ(waiting->Wait().status(), Unavailable("the server is shutting down"));
}

TEST_F(SchedulerTest, AQueuedRequestOutOfTimeEndsWhileOthersRun) {
  Scheduler one(runner_, tokenizer_, {.max_running_requests = 1});
  runner_.HoldAt(2);
  const auto running = std::make_shared<Recorder>(), late = std::make_shared<Recorder>(),
             slow = std::make_shared<Recorder>();
  ASSERT_TRUE(one.Submit(Prompt("a", 30), running).ok());
  runner_.WaitUntilHeld();
  CompletionRequest request = Prompt("xyz");
  request.deadline = std::chrono::steady_clock::now() - 1ms;
  ASSERT_TRUE(one.Submit(request, late).ok());
  request.deadline.reset();
  request.stopping.time_limit = 1ms;
  request.echo = true;
  ASSERT_TRUE(one.Submit(request, slow).ok());
  std::this_thread::sleep_for(2ms);
  runner_.HoldAt(3);  // one step later
  EXPECT_EQ(late->Wait().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(slow->Wait()->finish_reason, FinishReason::kTimeLimit);
  EXPECT_EQ(slow->text, "xyz");
  EXPECT_LE(runner_.forward_calls(), 3);  // held there
  runner_.Release();
  EXPECT_EQ(running->Wait()->completion_tokens, 30);
}

TEST_F(SchedulerTest, TheQueueIsBoundedByTokensToo) {
  Scheduler scheduler(runner_, tokenizer_, {.max_queued_tokens = 40});
  runner_.HoldAt(1);
  std::vector<std::shared_ptr<Recorder>> admitted;
  const auto submit = [&](size_t n_tokens) {
    admitted.push_back(std::make_shared<Recorder>());
    return scheduler.Submit(Prompt(std::string(n_tokens, 'a'), 1), admitted.back()).status();
  };
  ASSERT_TRUE(submit(5).ok());
  runner_.WaitUntilHeld();
  ASSERT_TRUE(submit(30).ok());
  EXPECT_EQ(scheduler.stats().waiting_tokens, 30);
  const absl::Status refused = submit(11);
  admitted.pop_back();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(MessageOf(refused),
            "the queue is full: requests of 30 tokens wait, 11 more exceed the limit of 40");
  EXPECT_TRUE(submit(10).ok());
  runner_.Release();
  for (const auto& recorder : admitted) EXPECT_TRUE(recorder->Wait().ok());
}

TEST_F(SchedulerTest, WhatArrivesTogetherRunsTogether) {
  runner_.HoldAt(1);
  const auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>(),
             third = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler_.Submit(Prompt("a", 9), first).ok());
  runner_.WaitUntilHeld();
  ASSERT_TRUE(scheduler_.Submit(Prompt("k", 9), second).ok());
  ASSERT_TRUE(scheduler_.Submit(Prompt("r", 9), third).ok());
  runner_.Release();
  EXPECT_TRUE(first->Wait().ok());
  EXPECT_TRUE(second->Wait().ok());
  EXPECT_TRUE(third->Wait().ok());
  EXPECT_EQ(first->text, "bcdefghij");
  EXPECT_EQ(second->text, "lmnopqrst");
  EXPECT_EQ(third->text, "stuvwxyza");
  // Alone they would take 24 decode steps. Here the last decodes with the others from the third one on at the
  // latest, whether the prompts came in one chunk or two.
  const SchedulerStats stats = scheduler_.stats();
  EXPECT_LE(stats.prefill_steps, 3u);
  EXPECT_LE(stats.decode_step_count, 10u);
  EXPECT_EQ(stats.generated_tokens, 27u);
  EXPECT_EQ(stats.prompt_tokens, 3u);
  EXPECT_EQ(stats.pages, runner_.n_kv_pages());
  EXPECT_EQ(stats.used_pages, 0);
  EXPECT_EQ(stats.running, 0);
}

TEST(SchedulerHealth, ALostRunnerFailsWhatIsThereAndRefusesTheRest) {
  PuppetTokenizer tokenizer;
  PuppetRunner runner;
  std::promise<absl::Status> lost;
  Scheduler scheduler(
      runner, tokenizer,
      {.max_running_requests = 1, .on_runner_lost = [&](const absl::Status& s) { lost.set_value(s); }});
  EXPECT_TRUE(scheduler.health().ok());
  runner.HoldAt(3);
  runner.LoseDeviceAt(3);
  const auto running = std::make_shared<Recorder>(), waiting = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler.Submit(Prompt("a", 30), running).ok());
  runner.WaitUntilHeld();
  ASSERT_TRUE(scheduler.Submit(Prompt("a", 30), waiting).ok());
  runner.Release();
  const absl::Status unavailable = Unavailable("the model runner is lost: the puppet's device is lost");
  EXPECT_EQ(running->Wait().status(), unavailable);
  EXPECT_EQ(waiting->Wait().status(), unavailable);
  EXPECT_EQ(lost.get_future().get(), Internal("the puppet's device is lost"));
  EXPECT_EQ(scheduler.health(), Internal("the puppet's device is lost"));
  EXPECT_EQ(scheduler.Submit(Prompt("a"), std::make_shared<Recorder>()).status(), unavailable);
  EXPECT_TRUE(scheduler.Drain(10min));
}

// Clients of many threads that cancel at any moment: every request ends once, nobody else's tokens change,
// and all pages come back.
TEST(SchedulerConcurrency, ClientsThatVanishLeaveNothingBehind) {
  PuppetTokenizer tokenizer;
  PuppetRunner runner(/*context_length=*/64, /*max_step_tokens=*/16, /*predicts=*/false, /*n_kv_pages=*/16);
  Scheduler scheduler(runner, tokenizer);
  std::vector<std::jthread> clients;
  for (uint64_t client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      SplitMix64 random(client);
      for (int i = 0; i < 50; ++i) {
        const auto recorder = std::make_shared<Recorder>();
        const auto handle =
            scheduler.Submit(Prompt("a", 1 + static_cast<int64_t>(random.Next() % 60)), recorder);
        ASSERT_TRUE(handle.ok()) << handle.status();
        const bool cancel = random.Next() % 2 == 0;
        for (uint64_t turns = random.Next() % 20; turns-- > 0;) std::this_thread::yield();
        if (cancel) scheduler.Cancel(*handle);
        const auto result = recorder->Wait();
        EXPECT_TRUE(result.ok() || (cancel && result.status().code() == absl::StatusCode::kCancelled))
            << result.status();
        constexpr std::string_view kAlphabet = "abcdefghijklmnopqrstuvwxyz";
        for (size_t j = 0; j < recorder->text.size(); ++j)
          ASSERT_EQ(recorder->text[j], kAlphabet[(j + 1) % kAlphabet.size()]);
      }
    });
  }
  clients.clear();
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.finished, 200u);
  EXPECT_EQ(stats.used_pages, 0);
  EXPECT_EQ(stats.running, 0);
  EXPECT_EQ(stats.waiting, 0);
}

class QualityTest : public ::testing::Test {
 protected:
  // Submits and waits.
  static absl::StatusOr<CompletionSummary> Complete(Scheduler& scheduler, CompletionRequest request,
                                                    std::vector<TokenId>* tokens = nullptr) {
    const auto recorder = std::make_shared<Recorder>();
    TC_RETURN_IF_ERROR(scheduler.Submit(std::move(request), recorder).status());
    auto result = recorder->Wait();
    if (tokens != nullptr) *tokens = recorder->token_ids;
    return result;
  }
  static CompletionRequest Asking(std::optional<Quality> quality, int64_t max_tokens = 5) {
    CompletionRequest request = Prompt("a", max_tokens);
    request.quality = quality;
    return request;
  }

  PuppetTokenizer tokenizer_;
  PuppetRunner runner_{/*context_length=*/64, /*max_step_tokens=*/4, /*predicts=*/true};
};

TEST_F(QualityTest, EachRequestIsDecodedWithItsOwn) {
  Scheduler scheduler(runner_, tokenizer_);
  EXPECT_EQ(Complete(scheduler, Asking(Quality::kFast, 3))->quality, Quality::kFast);
  EXPECT_EQ(Complete(scheduler, Asking(Quality::kExact, 3))->quality, Quality::kExact);
  EXPECT_EQ(Complete(scheduler, Asking(std::nullopt, 2))->quality, Quality::kBalanced);
  EXPECT_EQ(runner_.decode_qualities(), (std::vector{Quality::kFast, Quality::kFast, Quality::kExact,
                                                     Quality::kExact, Quality::kBalanced}));
}

TEST_F(QualityTest, WithoutPredictorsOnlyExactIsAdmitted) {
  PuppetRunner plain;
  Scheduler scheduler(plain, tokenizer_);
  const auto refused = Complete(scheduler, Asking(Quality::kBalanced));
  EXPECT_EQ(FieldOf(refused.status()), "quality") << refused.status();
  EXPECT_EQ(plain.forward_calls(), 0);
  EXPECT_EQ(Complete(scheduler, Asking(std::nullopt))->quality, Quality::kExact);
  EXPECT_TRUE(Complete(scheduler, Asking(Quality::kExact)).ok());
}

TEST_F(QualityTest, DecodeStepsAddUpForTheRequestAndForAll) {
  Scheduler scheduler(runner_, tokenizer_);
  const StepSums exact = Complete(scheduler, Asking(Quality::kExact, 4))->decode_steps;
  EXPECT_EQ(exact.tokens, 3);  // the last token needs no step, the prompt's are not counted
  EXPECT_EQ(exact.total.neurons, 300);
  EXPECT_EQ(exact.total.marked_neurons, 300);
  EXPECT_EQ(exact.bytes_per_token(), 400);
  const StepSums fast = Complete(scheduler, Asking(Quality::kFast, 2))->decode_steps;
  EXPECT_EQ(fast.tokens, 1);
  EXPECT_EQ(fast.total, PuppetRunner::FiguresOf(StepKind::kDecode, Quality::kFast));
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.decode_steps.tokens, 4);
  EXPECT_EQ(stats.decode_steps.total.marked_neurons, 310);
  EXPECT_EQ(stats.execution.steps, 6u);  // two prompts and four tokens
  EXPECT_EQ(stats.execution.overlap_ratio(), 0.75);
}

TEST_F(QualityTest, OneTokenInSoManyIsAudited) {
  Scheduler scheduler(runner_, tokenizer_, {.audit_every = 3});
  // Positions of decode steps: 1 to 7 of the first request, 1 to 4 of the last. Exact ones are not counted.
  ASSERT_TRUE(Complete(scheduler, Asking(Quality::kFast, 8)).ok());
  ASSERT_TRUE(Complete(scheduler, Asking(Quality::kExact, 9)).ok());
  ASSERT_TRUE(Complete(scheduler, Asking(Quality::kBalanced, 5)).ok());
  EXPECT_EQ(runner_.audited_positions(), (std::vector<int64_t>{3, 6, 2}));
  // 8 of 8, 8 of 8 and 6 of 8 neurons; 0.375, 0.125 and 0.25; odd, even, even.
  const AuditSums audits = scheduler.stats().audits;
  EXPECT_EQ(audits.tokens, 3);
  EXPECT_EQ(audits.recall(), 22.0 / 24);
  EXPECT_EQ(audits.kl_mean(), 0.25);
  EXPECT_EQ(audits.kl_max, 0.375);
  EXPECT_EQ(audits.top1_agreement(), 2.0 / 3);
}

TEST_F(QualityTest, AuditsChangeNothing) {
  CompletionRequest request = Asking(Quality::kFast, 40);
  request.sampling.temperature = 3;
  request.sampling.seed = 7;
  std::vector<TokenId> expected;
  StepSums expected_steps;
  for (const int64_t every : {0, 1, 4}) {
    PuppetRunner runner(/*context_length=*/64, /*max_step_tokens=*/4, /*predicts=*/true);
    Scheduler scheduler(runner, tokenizer_, {.audit_every = every});
    std::vector<TokenId> tokens;
    const auto summary = Complete(scheduler, request, &tokens);
    ASSERT_TRUE(summary.ok()) << summary.status();
    EXPECT_EQ(scheduler.stats().audits.tokens, every > 0 ? 39 / every : 0);
    if (every == 0) {
      expected = tokens;
      expected_steps = summary->decode_steps;
    }
    EXPECT_EQ(tokens, expected) << every;
    EXPECT_EQ(summary->decode_steps.total, expected_steps.total) << every;
  }
}

TEST_F(QualityTest, AnAuditsFailureIsTheRequests) {
  runner_.FailAfter(PuppetTokenizer::IdOf('c'), Internal("device lost"));
  Scheduler scheduler(runner_, tokenizer_, {.audit_every = 1});
  EXPECT_EQ(Complete(scheduler, Asking(Quality::kFast)).status(), Internal("device lost"));
  EXPECT_EQ(scheduler.stats().audits.tokens, 1);
}

TEST(SchedulerLifetime, DestructionEndsWhatRuns) {
  PuppetTokenizer tokenizer;
  PuppetRunner runner;
  const auto recorder = std::make_shared<Recorder>();
  {
    Scheduler scheduler(runner, tokenizer);
    ASSERT_TRUE(scheduler.Submit(Prompt("a", 4000), recorder).ok());
  }
  const auto result = recorder->Wait();
  EXPECT_TRUE(result.ok() || result.status().code() == absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace thermocline
