// A hundred mixed requests on the demo model, all at once: each gets what it gets alone.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <thread>

#include "core/mapped_file.h"
#include "core/random.h"
#include "model/checkpoint.h"
#include "scheduler/scheduler.h"
#include "scheduler/transformer.h"
#include "tests/support/recorder.h"

namespace thermocline {
namespace {

using testing::Recorder;

constexpr char kModel[] = THERMOCLINE_SOURCE_DIR "/models/demo";
constexpr size_t kRequests = 100;

// Thresholds that leave so much out that every quality says something else.
PredictorSet SignPredictors(const ModelConfig& config) {
  PredictorSet set{.model = {.n_layers = config.n_layers, .d_model = config.d_model, .d_ff = config.d_ff}};
  set.layers.assign(static_cast<size_t>(config.n_layers),
                    {.kind = PredictorKind::kSign, .balanced_threshold = 20, .fast_threshold = 40});
  return set;
}

struct Answer {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<TokenLogprob> logprobs;
  CompletionSummary summary;
};

class MixedRequests : public ::testing::Test {
 protected:
  void SetUp() override {
    const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
    weights_ = *ModelWeights::Load(checkpoint_, cpu);
    const PredictorSet predictors = SignPredictors(checkpoint_.config);
    // Room for twice a context, so that requests wait for pages and lose them; and prompts in several steps.
    transformer_ = *Transformer::Create(checkpoint_.config, weights_, cpu,
                                        {.context_tokens = 256,
                                         .kv_tokens = 512,
                                         .block_tokens = 40,
                                         .mode = NeuronMode::kPredicted,
                                         .predictors = &predictors});
    text_ = *checkpoint_.tokenizer->Encode(*ReadTextFile(std::string(kModel) + "/valid.txt", 1 << 20), {});
  }

  // Prompts of 1 to 90 tokens, many of which begin alike.
  CompletionRequest RandomRequest(SplitMix64& random) const {
    const auto pick = [&](uint64_t n) { return static_cast<size_t>(random.Next() % n); };
    CompletionRequest request;
    const size_t shared = 500 * pick(3), own = pick(text_.size() - 100);
    const std::span<const TokenId> text(text_);
    for (const TokenId token : text.subspan(shared, pick(70))) request.prompt.push_back(token);
    for (const TokenId token : text.subspan(own, 1 + pick(20))) request.prompt.push_back(token);
    request.quality = std::array{Quality::kExact, Quality::kBalanced, Quality::kFast}[pick(3)];
    request.stopping.max_tokens = static_cast<int64_t>(1 + pick(24));
    request.stopping.ignore_eos = pick(2) == 0;
    if (pick(4) == 0) request.stopping.stop = {"the", ". "};
    request.sampling.seed = random.Next();
    if (pick(2) == 0) request.sampling.temperature = 0.8;
    if (pick(3) == 0) request.sampling.top_p = 0.9;
    if (pick(3) == 0) request.sampling.repetition_penalty = 1.2;
    if (pick(4) == 0) request.sampling.presence_penalty = 0.5;
    if (pick(4) == 0) request.sampling.logit_bias = {{request.prompt[0], 2.0}};
    request.echo = pick(5) == 0;
    request.top_logprobs = pick(4) == 0 ? 3 : 0;
    return request;
  }

  static Answer Take(Recorder& recorder) {
    const auto summary = recorder.Wait();
    EXPECT_TRUE(summary.ok()) << summary.status();
    return {recorder.text, recorder.token_ids, recorder.logprobs, *summary};
  }
  // By a scheduler of its own, so that nothing is cached.
  Answer Alone(const CompletionRequest& request) {
    Scheduler scheduler(*transformer_, *checkpoint_.tokenizer);
    const auto recorder = std::make_shared<Recorder>();
    EXPECT_TRUE(scheduler.Submit(request, recorder).ok());
    return Take(*recorder);
  }

  Checkpoint checkpoint_ = *Checkpoint::Open(kModel);
  std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
  ModelWeights weights_;
  std::unique_ptr<Transformer> transformer_;
  std::vector<TokenId> text_;
};

TEST_F(MixedRequests, TogetherAreWhatEachIsAlone) {
  SplitMix64 random(11);
  std::vector<CompletionRequest> requests;
  std::vector<Answer> alone;
  for (size_t i = 0; i < kRequests; ++i) {
    requests.push_back(RandomRequest(random));
    alone.push_back(Alone(requests.back()));
  }

  // Four clients submit them in an order of their own.
  std::vector<std::shared_ptr<Recorder>> recorders(kRequests);
  for (auto& recorder : recorders) recorder = std::make_shared<Recorder>();
  Scheduler scheduler(*transformer_, *checkpoint_.tokenizer, {.max_running_requests = 24, .audit_every = 9});
  std::vector<size_t> order(kRequests);
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = kRequests; i-- > 1;) std::swap(order[i], order[random.Next() % (i + 1)]);
  {
    std::vector<std::jthread> clients;
    for (size_t client = 0; client < 4; ++client) {
      clients.emplace_back([&, client] {
        for (size_t i = client; i < kRequests; i += 4)
          EXPECT_TRUE(scheduler.Submit(requests[order[i]], recorders[order[i]]).ok());
      });
    }
  }

  for (size_t i = 0; i < kRequests; ++i) {
    const Answer together = Take(*recorders[i]);
    EXPECT_EQ(together.tokens, alone[i].tokens) << i;
    EXPECT_EQ(together.text, alone[i].text) << i;
    EXPECT_EQ(together.summary.finish_reason, alone[i].summary.finish_reason) << i;
    EXPECT_EQ(together.summary.completion_tokens, alone[i].summary.completion_tokens) << i;
    ASSERT_EQ(together.logprobs.size(), alone[i].logprobs.size());
    for (size_t j = 0; j < together.logprobs.size(); ++j)
      EXPECT_EQ(together.logprobs[j].logprob, alone[i].logprobs[j].logprob) << i;
  }
  const SchedulerStats stats = scheduler.stats();
  EXPECT_EQ(stats.finished, kRequests);
  EXPECT_EQ(stats.used_pages, 0);
  EXPECT_GT(stats.prefix_hit_tokens, 0u);
  EXPECT_GT(stats.audits.tokens, 0);
}

}  // namespace
}  // namespace thermocline
