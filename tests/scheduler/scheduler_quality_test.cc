// Qualities and audits of requests, driven by a puppet model.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "scheduler/scheduler.h"
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
  const auto fast = Complete(scheduler, Asking(Quality::kFast, 8));
  const auto exact = Complete(scheduler, Asking(Quality::kExact, 9));
  const auto balanced = Complete(scheduler, Asking(Quality::kBalanced, 5));
  ASSERT_TRUE(fast.ok() && exact.ok() && balanced.ok());
  EXPECT_EQ(runner_.audited_positions(), (std::vector<int64_t>{3, 6, 2}));
  // 8 of 8, 8 of 8 and 6 of 8 neurons; 0.375, 0.125 and 0.25; odd, even, even.
  const AuditSums audits = scheduler.stats().audits;
  EXPECT_EQ(audits.tokens, 3);
  EXPECT_EQ(audits.recall(), 22.0 / 24);
  EXPECT_EQ(audits.kl_mean(), 0.25);
  EXPECT_EQ(audits.kl_max, 0.375);
  EXPECT_EQ(audits.top1_agreement(), 2.0 / 3);
  // Each request hears of its own.
  EXPECT_EQ(fast->audits.tokens, 2);
  EXPECT_EQ(fast->audits.recall(), 1);
  EXPECT_EQ(exact->audits.tokens, 0);
  EXPECT_EQ(balanced->audits.tokens, 1);
  EXPECT_EQ(balanced->audits.recall(), 6.0 / 8);
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

}  // namespace
}  // namespace thermocline
