// The dial and the audit on the demo model: thresholds belong to requests, audits leave no trace.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <future>
#include <map>

#include "model/checkpoint.h"
#include "scheduler/scheduler.h"
#include "scheduler/transformer.h"

namespace thermocline {
namespace {

constexpr char kModel[] = THERMOCLINE_SOURCE_DIR "/models/demo";
constexpr char kPrompt[] = "Once upon a time there was a";
constexpr Quality kQualities[] = {Quality::kExact, Quality::kBalanced, Quality::kFast};

// Thresholds that leave so much out that every quality says something else.
PredictorSet SignPredictors(const ModelConfig& config) {
  PredictorSet set{.model = {.n_layers = config.n_layers, .d_model = config.d_model, .d_ff = config.d_ff}};
  set.layers.assign(static_cast<size_t>(config.n_layers),
                    {.kind = PredictorKind::kSign, .balanced_threshold = 20, .fast_threshold = 40});
  return set;
}

class Gatherer final : public CompletionObserver {
 public:
  void OnDelta(CompletionDelta delta) override {
    tokens.insert(tokens.end(), delta.token_ids.begin(), delta.token_ids.end());
  }
  void OnFinish(absl::StatusOr<CompletionSummary> result) override { end_.set_value(std::move(result)); }
  absl::StatusOr<CompletionSummary> Wait() { return end_.get_future().get(); }

  std::vector<TokenId> tokens;

 private:
  std::promise<absl::StatusOr<CompletionSummary>> end_;
};

// The demo model in mode predicted behind a scheduler of its own.
class Demo {
 public:
  explicit Demo(int64_t audit_every = 0) : checkpoint_(*Checkpoint::Open(kModel)) {
    cpu_ = {.team = team_.get(), .kernels = &BestKernels()};
    weights_ = *ModelWeights::Load(checkpoint_, cpu_);
    const PredictorSet predictors = SignPredictors(checkpoint_.config);
    runner_ = *Transformer::Create(checkpoint_.config, weights_, cpu_,
                                   {.mode = NeuronMode::kPredicted, .predictors = &predictors});
    scheduler_.emplace(*runner_, *checkpoint_.tokenizer, SchedulerOptions{.audit_every = audit_every});
  }

  std::vector<TokenId> Complete(Quality quality) {
    CompletionRequest request{.prompt = *checkpoint_.tokenizer->Encode(kPrompt, {}), .quality = quality};
    request.stopping.max_tokens = 24;
    request.stopping.ignore_eos = true;
    const auto gatherer = std::make_shared<Gatherer>();
    EXPECT_TRUE(scheduler_->Submit(std::move(request), gatherer).ok());
    const auto summary = gatherer->Wait();
    EXPECT_TRUE(summary.ok()) << summary.status();
    summary_ = *summary;
    return gatherer->tokens;
  }
  const CompletionSummary& last_summary() const { return summary_; }
  SchedulerStats stats() const { return scheduler_->stats(); }

 private:
  Checkpoint checkpoint_;
  std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
  CpuContext cpu_;
  ModelWeights weights_;
  std::unique_ptr<Transformer> runner_;
  std::optional<Scheduler> scheduler_;
  CompletionSummary summary_;
};

TEST(Quality, RequestsOneAfterTheOtherGetWhatEachGetsAlone) {
  std::map<Quality, std::vector<TokenId>> alone;
  for (const Quality quality : kQualities) alone[quality] = Demo().Complete(quality);
  EXPECT_NE(alone[Quality::kExact], alone[Quality::kBalanced]);
  EXPECT_NE(alone[Quality::kExact], alone[Quality::kFast]);
  EXPECT_NE(alone[Quality::kBalanced], alone[Quality::kFast]);
  Demo shared;
  for (const Quality first : kQualities) {
    for (const Quality second : kQualities) {
      EXPECT_EQ(shared.Complete(first), alone[first]);
      EXPECT_EQ(shared.Complete(second), alone[second]) << NameOf(second) << " after " << NameOf(first);
    }
  }
}

TEST(Quality, MoreSpeedReadsLess) {
  Demo demo;
  demo.Complete(Quality::kExact);
  const StepSums exact = demo.last_summary().decode_steps;
  demo.Complete(Quality::kBalanced);
  const StepSums balanced = demo.last_summary().decode_steps;
  demo.Complete(Quality::kFast);
  const StepSums fast = demo.last_summary().decode_steps;
  EXPECT_EQ(exact.total.marked_neurons, exact.total.neurons);
  EXPECT_LT(balanced.total.marked_neurons, balanced.total.neurons);
  EXPECT_LT(fast.total.marked_neurons, balanced.total.marked_neurons);
  EXPECT_LT(balanced.bytes_per_token(), exact.bytes_per_token());
  EXPECT_LT(fast.bytes_per_token(), balanced.bytes_per_token());
}

TEST(Quality, AuditsLeaveNoTraceInTheAnswer) {
  for (const Quality quality : kQualities) {
    Demo plain, audited(/*audit_every=*/2);
    EXPECT_EQ(audited.Complete(quality), plain.Complete(quality)) << NameOf(quality);
    EXPECT_EQ(audited.last_summary().decode_steps.total, plain.last_summary().decode_steps.total);
    EXPECT_EQ(plain.stats().audits.tokens, 0);
    const AuditSums audits = audited.stats().audits;
    if (quality == Quality::kExact) {
      EXPECT_EQ(audits.tokens, 0);
      continue;
    }
    EXPECT_EQ(audits.tokens, 23 / 2);
    EXPECT_GT(audits.recall(), 0);
    EXPECT_LT(audits.recall(), 1);
    EXPECT_GT(audits.kl_mean(), 0);
    EXPECT_GE(audits.kl_max, audits.kl_mean());
  }
}

}  // namespace
}  // namespace thermocline
