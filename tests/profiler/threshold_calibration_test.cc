// Thresholds found for a small SiLU model, and what those of SmolLM2 cost.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/threshold_calibration.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "core/mapped_file.h"
#include "model/checkpoint.h"
#include "scheduler/evaluation.h"
#include "tests/support/refusal.h"
#include "tests/support/slow_llama.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

bool GoOn(int64_t /*layer*/) { return true; }

// A model with what its runners borrow from.
struct Loaded {
  Loaded(const std::string& path, bool load_tokenizer)
      : checkpoint(*Checkpoint::Open(path, {.load_tokenizer = load_tokenizer})),
        team(*ThreadTeam::Create(2)),
        cpu{.team = team.get(), .kernels = &BestKernels()},
        weights(*ModelWeights::Load(checkpoint, cpu)) {}

  std::unique_ptr<Transformer> Create(const TransformerOptions& options) {
    return *Transformer::Create(checkpoint.config, weights, cpu, options);
  }
  ModelIdentity identity() const {
    return {.sha256 = std::string(64, 'c'),
            .n_layers = checkpoint.config.n_layers,
            .d_model = checkpoint.config.d_model,
            .d_ff = checkpoint.config.d_ff};
  }

  Checkpoint checkpoint;
  std::unique_ptr<ThreadTeam> team;
  CpuContext cpu;
  ModelWeights weights;
};

class Calibration : public ::testing::Test {
 protected:
  static constexpr size_t kTokens = 48;

  void SetUp() override {
    SlowLlama(TwelveLayerConfig(Activation::kSilu), 3).WriteTo(folder_.path());
    model_ = std::make_unique<Loaded>(folder_.path(), /*load_tokenizer=*/false);
    dense_ = model_->Create({});
  }

  static std::vector<TokenId> Text(uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<TokenId> tokens(kTokens);
    for (TokenId& token : tokens) token = static_cast<TokenId>(3 + random() % 256);
    return tokens;
  }

  absl::StatusOr<ThresholdSet> Find(const CalibrationOptions& options, int64_t uncounted = 1) {
    TC_ASSIGN_OR_RETURN(ThresholdCalibration calibration, ThresholdCalibration::Create(*dense_, options));
    for (uint32_t seed = 0; seed < 6; ++seed) TC_RETURN_IF_ERROR(calibration.AddText(Text(seed), uncounted));
    return calibration.Find(model_->identity(), GoOn);
  }

  const TemporaryFolder folder_;
  std::unique_ptr<Loaded> model_;
  std::unique_ptr<Transformer> dense_;
};

TEST_F(Calibration, LeavesOutTheShareThatWasAskedForOfFreshText) {
  for (const ThresholdMethod method :
       {ThresholdMethod::kUniform, ThresholdMethod::kTeal, ThresholdMethod::kCats}) {
    const auto found = Find({.method = method, .target = 0.4, .sample_tokens = 24, .steps = 6});
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(found->tokens, 6 * static_cast<int64_t>(kTokens - 1));
    ASSERT_EQ(found->layers.size(), 12u);
    if (method != ThresholdMethod::kCats) {
      EXPECT_NEAR(found->skipped(), 0.4, 1e-3);
    }
    for (const LayerThresholds& layer : found->layers) {
      const bool cats = method == ThresholdMethod::kCats;
      EXPECT_EQ(layer.magnitude(ThresholdSite::kGate) > 0, cats);
      if (method != ThresholdMethod::kTeal) {
        EXPECT_EQ(layer.magnitude(ThresholdSite::kDown) > 0, !cats);
      }
      if (cats) {
        EXPECT_NEAR(layer.at(ThresholdSite::kGate).share, 0.4, 1e-3);
      }
      EXPECT_TRUE(method == ThresholdMethod::kTeal || layer.error == 0);
    }
    const auto runner = model_->Create({.mode = NeuronMode::kThreshold, .thresholds = &*found});
    int64_t active = 0, neurons = 0;
    std::vector<float> logits(static_cast<size_t>(runner->n_vocab()));
    const std::vector<TokenId> text = Text(99);
    for (size_t t = 0; t < text.size(); ++t) {
      ASSERT_TRUE(runner
                      ->Forward({.tokens = {&text[t], 1},
                                 .first_position = static_cast<int64_t>(t),
                                 .quality = Quality::kBalanced},
                                logits)
                      .ok());
      active += runner->last_step().active_neurons;
      neurons += runner->last_step().neurons;
    }
    double kept = 0;
    for (const LayerThresholds& layer : found->layers) {
      kept +=
          (1 -
           layer.at(method == ThresholdMethod::kCats ? ThresholdSite::kGate : ThresholdSite::kDown).share) /
          12;
    }
    EXPECT_NEAR(static_cast<double>(active) / static_cast<double>(neurons), kept, 0.04) << NameOf(method);
  }
}

TEST_F(Calibration, GreedyAllocationCostsLessThanTheSameShareEverywhere) {
  const auto divergence = [&](ThresholdMethod method) {
    const auto found = Find({.method = method, .target = 0.5, .steps = 6});
    EXPECT_TRUE(found.ok()) << found.status();
    const auto runner = model_->Create({.mode = NeuronMode::kThreshold, .thresholds = &*found});
    const auto result =
        Evaluate(*runner, Text(0),
                 {.window_tokens = kTokens, .quality = Quality::kBalanced, .reference = dense_.get()});
    EXPECT_TRUE(result.ok()) << result.status();
    return result->kl_mean;
  };
  const double teal = divergence(ThresholdMethod::kTeal);
  EXPECT_GT(teal, 0);
  EXPECT_LT(teal, divergence(ThresholdMethod::kUniform));
}

TEST_F(Calibration, DoesNotCountWhatDecodingNeverComputes) {
  const auto all = Find({.method = ThresholdMethod::kUniform}, 0);
  const auto without_first = Find({.method = ThresholdMethod::kUniform}, 1);
  ASSERT_TRUE(all.ok() && without_first.ok());
  EXPECT_EQ(all->tokens, without_first->tokens + 6);
  EXPECT_NE(all->layers, without_first->layers);
}

TEST_F(Calibration, RefusesShareAndTextOutOfRange) {
  for (const double target : {0.0, -0.1, 0.96, std::nan("")})
    EXPECT_FALSE(ThresholdCalibration::Create(*dense_, {.target = target}).ok()) << target;
  ThresholdCalibration none = *ThresholdCalibration::Create(*dense_, {});
  ExpectRefusal(none.Find(model_->identity(), GoOn).status(), {"two tokens"});
  ThresholdCalibration interrupted = *ThresholdCalibration::Create(*dense_, {.sample_tokens = 8, .steps = 1});
  ASSERT_TRUE(interrupted.AddText(Text(1), 1).ok());
  const auto stopped = interrupted.Find(model_->identity(), [](int64_t layer) { return layer < 2; });
  EXPECT_EQ(stopped.status().code(), absl::StatusCode::kCancelled);
}

// With less text and fewer steps than `thermocline profile` takes, so that the test is short;
// docs/thresholds.md has what that gives.
TEST(SmolLm2Thresholds, KeepThePerplexity) {
  const char* folder = std::getenv("THERMOCLINE_TEST_MODELS");
  if (folder == nullptr) GTEST_SKIP() << "THERMOCLINE_TEST_MODELS is not set";
  Loaded model(std::string(folder) + "/SmolLM2-135M-Instruct.Q4_1.gguf", /*load_tokenizer=*/true);
  const std::string text = *ReadTextFile(THERMOCLINE_SOURCE_DIR "/models/demo/valid.txt", 1 << 20);
  const std::vector<TokenId> tokens =
      *model.checkpoint.tokenizer->Encode(text.substr(0, 20'000), {.add_bos = false});
  ASSERT_GT(tokens.size(), 3'000u);
  const std::span<const TokenId> seen = std::span(tokens).first(1'024),
                                 fresh = std::span(tokens).subspan(1'024, 512);
  const auto dense = model.Create({.context_tokens = 512});
  const double perplexity = Evaluate(*dense, fresh, {.window_tokens = 512})->perplexity();
  for (const auto& [target, limit] : {std::pair(0.25, 1.03), std::pair(0.4, 1.20)}) {
    ThresholdCalibration calibration = *ThresholdCalibration::Create(
        *dense, {.target = target, .sample_tokens = 96, .samples = 1, .steps = 8});
    for (size_t first = 0; first < seen.size(); first += 512)
      ASSERT_TRUE(calibration.AddText(seen.subspan(first, 512), 1).ok());
    const ThresholdSet thresholds = *calibration.Find(model.identity(), GoOn);
    EXPECT_NEAR(thresholds.skipped(), target, 0.01);
    const auto runner =
        model.Create({.context_tokens = 512, .mode = NeuronMode::kThreshold, .thresholds = &thresholds});
    const auto result = Evaluate(*runner, fresh, {.window_tokens = 512, .quality = Quality::kBalanced});
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_LT(result->perplexity() / perplexity, limit) << target;
  }
}

}  // namespace
}  // namespace thermocline
