// A synthetic model, run: it fires as often as was planted and asked for, and its predictors see it coming.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/planted_analysis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>

#include "profiler/skewness.h"
#include "scheduler/transformer.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

constexpr SyntheticOptions kOptions = {
    .shape = {.n_layers = 2, .d_model = 256, .d_ff = 768, .n_heads = 4, .n_kv_heads = 2, .n_vocab = 2400},
    .rank = 32,
    .seed = 3};

// Every layer's inputs and gates, over all tokens.
class Recorder final : public FeedForwardObserver {
 public:
  struct Layer {
    std::vector<std::vector<float>> inputs, gates;  // (n_tokens)
  };
  void OnGate(int64_t layer, MatrixView<const float> input, MatrixView<const float> gate) override {
    layers.resize(std::max(layers.size(), static_cast<size_t>(layer) + 1));
    Layer& target = layers[static_cast<size_t>(layer)];
    for (int64_t t = 0; t < input.rows; ++t) {
      target.inputs.emplace_back(input.row(t).begin(), input.row(t).end());
      target.gates.emplace_back(gate.row(t).begin(), gate.row(t).end());
    }
  }
  std::vector<Layer> layers;
};

// The model written, analysed and run over all pieces of its vocabulary, once for all tests.
class PlantedModel : public ::testing::Test {
 protected:
  struct Run {
    TemporaryFolder folder;
    std::unique_ptr<ThreadTeam> team = *ThreadTeam::Create(2);
    CpuContext cpu{.team = team.get(), .kernels = &BestKernels()};
    SyntheticModel model = *SyntheticModel::Create(kOptions);
    std::optional<Checkpoint> checkpoint;
    PlantedAnalysis analysis;
    Recorder recorder;
    std::vector<TokenId> greedy;  // successors of the first pieces
  };

  static void TearDownTestSuite() { run_.reset(); }
  void SetUp() override {
    if (run_ != nullptr) return;
    run_ = std::make_unique<Run>();
    const std::string path = run_->folder.path() + "/a.gguf";
    ASSERT_TRUE(run_->model.Write(path, *run_->team).ok());
    run_->checkpoint.emplace(*Checkpoint::Open(path));
    auto analysis = AnalysePlanted(run_->model, *run_->checkpoint, std::string(64, 'a'), run_->cpu);
    ASSERT_TRUE(analysis.ok()) << analysis.status();
    run_->analysis = *std::move(analysis);
    auto weights = ModelWeights::Load(*run_->checkpoint, run_->cpu);
    ASSERT_TRUE(weights.ok()) << weights.status();
    auto transformer = Transformer::Create(run_->checkpoint->config, *weights, run_->cpu, {});
    ASSERT_TRUE(transformer.ok()) << transformer.status();
    (*transformer)->SetFeedForwardObserver(&run_->recorder);
    std::vector<float> logits(static_cast<size_t>(kOptions.shape.n_vocab));
    for (int64_t first = kFirstSyntheticPiece; first < kOptions.shape.n_vocab;) {
      std::vector<TokenId> tokens;
      while (tokens.size() < 100 && first < kOptions.shape.n_vocab)
        tokens.push_back(static_cast<TokenId>(first++));
      const int64_t position = tokens.front() - kFirstSyntheticPiece;
      ASSERT_TRUE((*transformer)->Forward({.tokens = tokens, .first_position = position}, logits).ok());
      run_->greedy.push_back(
          static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    }
  }

  static size_t n_tokens() { return run_->recorder.layers.front().gates.size(); }
  static bool Fires(const std::vector<float>& gate, size_t neuron) { return gate[neuron] >= 0.25f; }

  static std::unique_ptr<Run> run_;
};
std::unique_ptr<PlantedModel::Run> PlantedModel::run_;

TEST_F(PlantedModel, FiresAsOftenAsPlanted) {
  ASSERT_EQ(n_tokens(), 2400u - 259u);
  const auto tokens = static_cast<double>(n_tokens());
  for (size_t l = 0; l < run_->recorder.layers.size(); ++l) {
    const std::vector<uint64_t>& planted = run_->analysis.profile.layers[l].profiled.active;
    double squares = 0, compared = 0, planted_sum = 0, measured_sum = 0;
    for (size_t i = 0; i < planted.size(); ++i) {
      const double frequency = static_cast<double>(planted[i]) / static_cast<double>(kPlantedTokens);
      double measured = 0;
      for (const auto& gate : run_->recorder.layers[l].gates) measured += Fires(gate, i) / tokens;
      planted_sum += frequency;
      measured_sum += measured;
      if (frequency * tokens < 5) continue;  // too rare for a normal count
      squares += std::pow(measured - frequency, 2) / (frequency * (1 - frequency) / tokens);
      ++compared;
    }
    ASSERT_GT(compared, 500);
    // Binomial counts give a mean of 1. Neurons share the tokens' 32 dimensions, so it scatters as a mean of
    // some dozens of squares does, by about 0.25: three times that.
    EXPECT_NEAR(squares / compared, 1.0, 0.75) << "layer " << l;
    EXPECT_NEAR(measured_sum / planted_sum, 1.0, 0.03) << "layer " << l;
  }
}

TEST_F(PlantedModel, IsAsSparseAndSkewedAsAsked) {
  double sparsity = 0, share = 0;
  for (const LayerActivations& layer : run_->analysis.profile.layers) {
    const Skewness skewness = MeasureSkewness(layer.profiled.active, kPlantedTokens);
    sparsity += skewness.sparsity / 2;
    share += skewness.share_for_80 / 2;
  }
  EXPECT_NEAR(sparsity, kOptions.sparsity, 0.005);
  EXPECT_NEAR(share, kOptions.skew, 0.02);  // the layers differ by up to a sixth in spread
}

TEST_F(PlantedModel, PredictorsHoldTheRecallTheyState) {
  for (size_t l = 0; l < run_->recorder.layers.size(); ++l) {
    const LayerPredictor& predictor = run_->analysis.predictors.layers[l];
    ASSERT_EQ(predictor.hidden, 64);
    std::vector<float> w1(64 * 256), w2(768 * 64);
    BestKernels().dequantize(ElementType::kQ8_0, predictor.w1.blocks.data(), 64 * 256, w1.data());
    BestKernels().dequantize(ElementType::kQ8_0, predictor.w2.blocks.data(), 768 * 64, w2.data());
    double active = 0, marked = 0, both = 0, both_fast = 0;
    for (size_t t = 0; t < n_tokens(); ++t) {
      const std::vector<float>& x = run_->recorder.layers[l].inputs[t];
      std::vector<float> hidden(64);
      for (size_t h = 0; h < 64; ++h)
        hidden[h] = std::max(0.0f, std::inner_product(x.begin(), x.end(), &w1[h * 256], predictor.b1[h]));
      for (size_t i = 0; i < 768; ++i) {
        const float score = std::inner_product(hidden.begin(), hidden.end(), &w2[i * 64], predictor.b2[i]);
        const bool fires = Fires(run_->recorder.layers[l].gates[t], i);
        const bool mark = static_cast<double>(score) >= predictor.balanced_threshold;
        active += fires;
        marked += mark;
        both += fires && mark;
        both_fast += fires && static_cast<double>(score) >= predictor.fast_threshold;
      }
    }
    // The thresholds come from 128 tokens with about 77 active neurons each: 10^4 draws, but those of one
    // token are alike.
    EXPECT_NEAR(both / active, 0.95, 0.015) << "layer " << l;
    EXPECT_NEAR(both_fast / active, 0.90, 0.02) << "layer " << l;
    EXPECT_NEAR(both / active, predictor.balanced.recall, 0.02) << "layer " << l;
    EXPECT_NEAR(both / marked, predictor.balanced.precision, 0.04) << "layer " << l;
    EXPECT_GT(both / marked, 0.6) << "layer " << l;
  }
}

TEST_F(PlantedModel, GreedyDecodingDoesNotRunInCircles) {
  std::vector<TokenId> distinct = run_->greedy;
  std::sort(distinct.begin(), distinct.end());
  EXPECT_EQ(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (const TokenId token : distinct) EXPECT_GE(token, kFirstSyntheticPiece);
}

TEST_F(PlantedModel, ProfileAndPredictorsCanBeWrittenAndRead) {
  const std::string profile_path = run_->folder.path() + "/profile.pb";
  const std::string predictor_path = run_->folder.path() + "/predictor.safetensors";
  ASSERT_TRUE(WriteProfile(run_->analysis.profile, profile_path).ok());
  ASSERT_TRUE(WritePredictors(run_->analysis.predictors, predictor_path).ok());
  const auto profile = ReadProfile(profile_path);
  ASSERT_TRUE(profile.ok()) << profile.status();
  EXPECT_EQ(profile->activation, "fatrelu");
  const auto predictors = ReadPredictors(predictor_path, run_->analysis.predictors.model);
  ASSERT_TRUE(predictors.ok()) << predictors.status();
  EXPECT_EQ(predictors->layers.size(), 2u);
}

}  // namespace
}  // namespace thermocline
