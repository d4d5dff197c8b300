// The life of requests, driven by a puppet model that continues the alphabet.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/scheduler.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "tests/support/puppet_requests.h"
#include "tests/support/puppet_runner.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/recorder.h"

namespace thermocline {
namespace {

using testing::Prompt;
using testing::PuppetRunner;
using testing::PuppetTokenizer;
using testing::Recorder;
using namespace std::chrono_literals;

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
  EXPECT_EQ(MessageOf(refused), "the queue is full: 2 requests wait, 1 more exceed the limit of 2");
  EXPECT_TRUE(RetryDelayOf(refused).has_value());
  runner_.Release();
  for (const auto& recorder : admitted) EXPECT_EQ(recorder->Wait()->completion_tokens, 5);
}

TEST_F(SchedulerTest, SeveralAreAdmittedTogetherOrNotAtAll) {
  const auto submit = [this](const std::vector<std::shared_ptr<Recorder>>& recorders) {
    std::vector<CompletionRequest> requests(recorders.size(), Prompt("a"));
    return scheduler_.SubmitAll(std::move(requests), {recorders.begin(), recorders.end()});
  };
  const auto make = [](size_t n) {
    std::vector<std::shared_ptr<Recorder>> recorders;
    while (recorders.size() < n) recorders.push_back(std::make_shared<Recorder>());
    return recorders;
  };
  runner_.HoldAt(1);
  const auto running = make(1), waiting = make(1), refused = make(2), admitted = make(2);
  ASSERT_TRUE(submit(running).ok());
  runner_.WaitUntilHeld();
  ASSERT_TRUE(submit(waiting).ok());
  // Room for one.
  EXPECT_EQ(submit(refused).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(scheduler_.stats().waiting, 1);
  for (const auto& recorder : refused) EXPECT_EQ(recorder.use_count(), 1);  // nobody holds it
  EXPECT_EQ(FieldOf(submit(make(3)).status()), "n");                        // the queue never takes three
  runner_.Release();
  EXPECT_TRUE(running[0]->Wait().ok());
  EXPECT_TRUE(waiting[0]->Wait().ok());

  const auto handles = submit(admitted);
  ASSERT_TRUE(handles.ok()) << handles.status();
  EXPECT_EQ(handles->size(), 2u);
  for (const auto& recorder : admitted) EXPECT_EQ(recorder->Wait()->completion_tokens, 5);
  for (const auto& recorder : refused) EXPECT_FALSE(recorder->ended());

  std::vector<CompletionRequest> requests = {Prompt("a"), Prompt("")};
  const auto unheard = make(2);
  EXPECT_EQ(FieldOf(scheduler_.SubmitAll(std::move(requests), {unheard.begin(), unheard.end()}).status()),
            "prompt");
  EXPECT_TRUE(scheduler_.Drain(10min));  // observers hear of the end a moment before nothing is left
  EXPECT_EQ(scheduler_.stats().finished, 4u);
  EXPECT_EQ(scheduler_.stats().used_pages, 0);
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

}  // namespace
}  // namespace thermocline
