// Mode threshold against the dense mode, and against a layer in plain doubles that leaves out the same
// inputs.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>
#include <optional>

#include "model/checkpoint.h"
#include "scheduler/transformer.h"
#include "tests/support/refusal.h"
#include "tests/support/split_plans.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/typed_llama.h"

namespace thermocline {
namespace {

using testing::RandomPlan;
using testing::RandomTokens;
using Row = std::vector<double>;

// The same magnitudes in every layer.
ThresholdSet SetOf(const ModelConfig& config, ThresholdMethod method,
                   const std::vector<std::pair<ThresholdSite, float>>& magnitudes) {
  LayerThresholds layer;
  for (const auto& [site, magnitude] : magnitudes) layer.at(site).magnitude = magnitude;
  return {.model = {.n_layers = config.n_layers, .d_model = config.d_model, .d_ff = config.d_ff},
          .method = method,
          .layers = std::vector<LayerThresholds>(static_cast<size_t>(config.n_layers), layer)};
}

// About half of the inputs of the model below.
const std::vector<std::pair<ThresholdSite, float>> kHalf = {{ThresholdSite::kAttention, 0.7f},
                                                            {ThresholdSite::kAttentionOutput, 0.6f},
                                                            {ThresholdSite::kFeedForward, 0.7f},
                                                            {ThresholdSite::kDown, 0.1f}};
const std::vector<std::pair<ThresholdSite, float>> kHalfOfGates = {{ThresholdSite::kGate, 0.2f}};

double Activated(Activation activation, double gate) {
  if (activation == Activation::kSilu) return gate / (1 + std::exp(-gate));
  return gate * 0.5 * std::erfc(-gate / std::sqrt(2.0));  // kGelu
}

void LeaveOut(double least, Row& values) {
  for (double& value : values)
    if (std::abs(value) < least) value = 0;
}

class ThresholdMode : public ::testing::Test {
 protected:
  void Open(ElementType type, Activation activation = Activation::kSilu) {
    WriteTypedLlama(path_, TypedLlamaConfig(), type, 5);
    checkpoint_.emplace(*Checkpoint::Open(path_, {.activation = activation, .load_tokenizer = false}));
    team_ = *ThreadTeam::Create(2);
    cpu_ = {.team = team_.get(), .kernels = &BestKernels()};
    weights_ = *ModelWeights::Load(*checkpoint_, cpu_, {.ffn_layout = FfnLayout::kMatrices});
  }

  std::unique_ptr<Transformer> Load(TransformerOptions options) {
    options.kv_type = ElementType::kF32;
    auto transformer = Transformer::Create(checkpoint_->config, weights_, cpu_, options);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    return *std::move(transformer);
  }
  std::unique_ptr<Transformer> Load(const ThresholdSet& thresholds) {
    return Load({.mode = NeuronMode::kThreshold, .thresholds = &thresholds});
  }

  // Logits of every token, so many a step.
  static std::vector<std::vector<float>> Decode(Transformer& transformer, std::span<const TokenId> tokens,
                                                size_t at_once, Quality quality) {
    std::vector<std::vector<float>> all;
    for (size_t first = 0; first < tokens.size(); first += at_once) {
      const auto part = tokens.subspan(first, std::min(at_once, tokens.size() - first));
      Matrix<float> logits = *Matrix<float>::Create(static_cast<int64_t>(part.size()), transformer.n_vocab());
      const absl::Status status = transformer.ForwardAll(
          {.tokens = part, .first_position = static_cast<int64_t>(first), .quality = quality}, logits.view());
      EXPECT_TRUE(status.ok()) << status;
      for (int64_t t = 0; t < logits.rows(); ++t)
        all.emplace_back(logits.row(t).begin(), logits.row(t).end());
    }
    return all;
  }

  Row Product(const WeightView& w, const Row& x) const {
    Row y;
    std::vector<float> row(static_cast<size_t>(w.cols));
    for (int64_t r = 0; r < w.rows; ++r) {
      cpu_.kernels->dequantize(w.type, w.row_data(r), w.cols, row.data());
      double sum = 0;
      for (size_t c = 0; c < row.size(); ++c) sum += static_cast<double>(row[c]) * x[c];
      y.push_back(sum);
    }
    return y;
  }
  Row Norm(const NormWeights& norm, const Row& x) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double scale =
        1 / std::sqrt(squares / static_cast<double>(x.size()) + checkpoint_->config.norm_epsilon);
    Row y;
    for (size_t c = 0; c < x.size(); ++c) y.push_back(x[c] * scale * static_cast<double>(norm.weight[c]));
    return y;
  }

  // Layer 0 for a token that is alone: attention then gives its value to every head.
  Row SlowLayer(Row x, const LayerThresholds& thresholds) const {
    const ModelConfig& config = checkpoint_->config;
    const LayerWeights& layer = weights_.layers[0];
    const auto least = [&](ThresholdSite site) { return static_cast<double>(thresholds.magnitude(site)); };
    const auto add = [&](const Row& update) {
      for (size_t c = 0; c < x.size(); ++c) x[c] += update[c];
    };
    Row input = Norm(layer.attention_norm, x);
    LeaveOut(least(ThresholdSite::kAttention), input);
    const Row value = Product(layer.value, input);
    Row attended;
    for (int64_t h = 0; h < config.n_heads; ++h) {
      const int64_t kv_head = h / (config.n_heads / config.n_kv_heads);
      const auto begin = value.begin() + kv_head * config.d_head;
      attended.insert(attended.end(), begin, begin + config.d_head);
    }
    LeaveOut(least(ThresholdSite::kAttentionOutput), attended);
    add(Product(layer.attention_output, attended));
    input = Norm(layer.ffn_norm, x);
    LeaveOut(least(ThresholdSite::kFeedForward), input);
    Row hidden = Product(layer.ffn.gate, input);
    const Row up = Product(layer.ffn.up, input);
    for (double& gate : hidden) gate = Activated(config.activation, gate);
    LeaveOut(least(ThresholdSite::kGate), hidden);
    for (size_t i = 0; i < hidden.size(); ++i) hidden[i] *= up[i];
    LeaveOut(least(ThresholdSite::kDown), hidden);
    add(Product(layer.ffn.down, hidden));
    return x;
  }

  // Layer 0 of a transformer on the embedding of a token; its distance from SlowLayer, of the largest value.
  double DistanceFromSlow(Transformer& transformer, const LayerThresholds& thresholds) {
    Matrix<float> before = *Matrix<float>::Create(1, checkpoint_->config.d_model);
    Matrix<float> behind = *Matrix<float>::Create(1, checkpoint_->config.d_model);
    const TokenId token = 9;
    EXPECT_TRUE(transformer.EmbedTokens({&token, 1}, before.view()).ok());
    transformer.RunLayer(0, &thresholds, before.view(), behind.view());
    const Row slow = SlowLayer({before.row(0).begin(), before.row(0).end()}, thresholds);
    double largest = 0, worst = 0;
    for (size_t c = 0; c < slow.size(); ++c) {
      largest = std::max(largest, std::abs(slow[c]));
      worst = std::max(worst, std::abs(slow[c] - static_cast<double>(behind.row(0)[c])));
    }
    return worst / largest;
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.Path("model.gguf");
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<ThreadTeam> team_;
  CpuContext cpu_;
  ModelWeights weights_;
};

TEST_F(ThresholdMode, LeavesOutWhatIsBelowTheThresholds) {
  for (const Activation activation : {Activation::kSilu, Activation::kGelu}) {
    Open(ElementType::kF32, activation);
    const ThresholdSet teal = SetOf(checkpoint_->config, ThresholdMethod::kTeal, kHalf);
    const ThresholdSet cats = SetOf(checkpoint_->config, ThresholdMethod::kCats, kHalfOfGates);
    const auto dense = Load(TransformerOptions());
    for (const ThresholdSet& thresholds : {teal, cats}) {
      const LayerThresholds& layer = thresholds.layers[0];
      // Products of F32 over at most 512 columns.
      EXPECT_LT(DistanceFromSlow(*Load(thresholds), layer), 1e-5) << NameOf(activation);
      EXPECT_LT(DistanceFromSlow(*dense, layer), 1e-5) << NameOf(activation);  // without columns
    }
  }
}

// As close as without thresholds: what rounding activations to 8 bits costs.
TEST_F(ThresholdMode, LeavesOutTheSameOfQuantisedWeights) {
  for (const ElementType type : {ElementType::kQ4_0, ElementType::kQ8_0, ElementType::kF16}) {
    Open(type);
    const ThresholdSet teal = SetOf(checkpoint_->config, ThresholdMethod::kTeal, kHalf);
    EXPECT_LT(DistanceFromSlow(*Load(teal), teal.layers[0]), 0.02) << NameOf(type);
  }
}

TEST_F(ThresholdMode, OfThresholdsOfZeroIsDense) {
  for (const ElementType type :
       {ElementType::kF32, ElementType::kQ8_0, ElementType::kQ4_0, ElementType::kQ6_K}) {
    Open(type);
    const std::vector<TokenId> tokens = RandomTokens(20, 3);
    const auto dense = Decode(*Load(TransformerOptions()), tokens, 1, Quality::kExact);
    for (const ThresholdMethod method : {ThresholdMethod::kTeal, ThresholdMethod::kCats}) {
      const ThresholdSet nothing = SetOf(checkpoint_->config, method, {});
      const auto threshold = Decode(*Load(nothing), tokens, 1, Quality::kBalanced);
      float worst = 0, largest = 0;
      for (size_t t = 0; t < dense.size(); ++t) {
        for (size_t i = 0; i < dense[t].size(); ++i) {
          worst = std::max(worst, std::abs(dense[t][i] - threshold[t][i]));
          largest = std::max(largest, std::abs(dense[t][i]));
        }
      }
      // Attention is of F32, whose sums by columns have another order: that moves an activation over the edge
      // of its 8 bits now and then. Types without panels have F32 activations in dense steps.
      EXPECT_LE(worst, (type == ElementType::kF32 ? 1e-4f : 0.05f) * largest) << NameOf(type);
    }
  }
}

TEST_F(ThresholdMode, ATokenHasTheSameBitsAloneAndBesideOthers) {
  Open(ElementType::kQ8_0);
  const std::vector<TokenId> tokens = RandomTokens(40, 4);
  for (const bool cats : {false, true}) {
    const ThresholdSet thresholds = cats ? SetOf(checkpoint_->config, ThresholdMethod::kCats, kHalfOfGates)
                                         : SetOf(checkpoint_->config, ThresholdMethod::kTeal, kHalf);
    const auto transformer = Load(thresholds);
    const auto alone = Decode(*transformer, tokens, 1, Quality::kBalanced);
    EXPECT_EQ(Decode(*transformer, tokens, 7, Quality::kBalanced), alone);
    EXPECT_EQ(Decode(*transformer, tokens, 40, Quality::kBalanced), alone);
    EXPECT_NE(Decode(*transformer, tokens, 1, Quality::kExact), alone);
  }
}

TEST_F(ThresholdMode, OfQualityExactIsDenseAndSoIsWhatAuditsCompareWith) {
  Open(ElementType::kQ8_0);
  const ThresholdSet thresholds = SetOf(checkpoint_->config, ThresholdMethod::kTeal, kHalf);
  const auto plain = Load(thresholds), audited = Load(thresholds);
  const std::vector<TokenId> tokens = RandomTokens(12, 6);
  EXPECT_EQ(Decode(*plain, tokens, 1, Quality::kExact),
            Decode(*Load(TransformerOptions()), tokens, 1, Quality::kExact));
  std::vector<float> expected(64), logits(64);
  for (size_t t = 0; t < tokens.size(); ++t) {
    const StepInput step{
        .tokens = {&tokens[t], 1}, .first_position = static_cast<int64_t>(t), .quality = Quality::kFast};
    ASSERT_TRUE(plain->Forward(step, expected).ok());
    const auto audit = audited->ForwardAudited(step, logits);
    ASSERT_TRUE(audit.ok()) << audit.status();
    EXPECT_EQ(logits, expected) << t;
    EXPECT_GT(audit->kl_divergence, 0) << t;
    EXPECT_EQ(audited->last_step(), plain->last_step());
  }
}

TEST_F(ThresholdMode, CountsWhatItReads) {
  Open(ElementType::kQ8_0);
  const TokenId token = 9;
  std::vector<float> logits(64);
  const auto read = [&](Transformer& transformer, Quality quality) {
    EXPECT_TRUE(transformer.Forward({.tokens = {&token, 1}, .quality = quality}, logits).ok());
    return transformer.last_step();
  };
  const auto teal = Load(SetOf(checkpoint_->config, ThresholdMethod::kTeal, kHalf));
  const StepFigures all = read(*teal, Quality::kExact), some = read(*teal, Quality::kBalanced);
  EXPECT_EQ(all.active_neurons, 0);  // dense steps do not look
  EXPECT_GT(some.active_neurons, 0);
  EXPECT_LT(some.active_neurons, some.neurons);
  const auto share = [](int64_t part, int64_t whole) {
    return static_cast<double>(part) / static_cast<double>(whole);
  };
  // Of feed-forward blocks, and of attention, which with head and embedding row is the rest.
  EXPECT_LT(share(some.neuron_bytes, all.neuron_bytes), 0.9);
  EXPECT_LT(share(some.bytes - some.neuron_bytes, all.bytes - all.neuron_bytes), 0.9);
  const auto cats = Load(SetOf(checkpoint_->config, ThresholdMethod::kCats, kHalfOfGates));
  const StepFigures gates = read(*cats, Quality::kBalanced);
  EXPECT_EQ(gates.bytes - gates.neuron_bytes, all.bytes - all.neuron_bytes);
  EXPECT_LT(share(gates.neuron_bytes, all.neuron_bytes), 0.9);
  EXPECT_GT(share(gates.neuron_bytes, all.neuron_bytes), 1.0 / 3);  // every gate
}

TEST_F(ThresholdMode, RefusesWhatItCannotRun) {
  Open(ElementType::kF32);
  const ThresholdSet thresholds = SetOf(checkpoint_->config, ThresholdMethod::kTeal, kHalf);
  const auto refuse = [&](ModelWeights& weights, const TransformerOptions& options,
                          const std::vector<std::string>& words) {
    const absl::Status status = Transformer::Create(checkpoint_->config, weights, cpu_, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    ExpectRefusal(status, words);
  };
  refuse(weights_, {.mode = NeuronMode::kThreshold}, {"threshold", "profile --thresholds"});
  ThresholdSet narrow = thresholds;
  narrow.model.d_ff = 511;
  refuse(weights_, {.mode = NeuronMode::kThreshold, .thresholds = &narrow}, {"thresholds", "511", "512"});
  const Plan plan = RandomPlan(checkpoint_->config, 0.5, 1);
  refuse(weights_, {.mode = NeuronMode::kThreshold, .thresholds = &thresholds, .plan = &plan},
         {"CPU alone", "host"});
  ModelWeights bundles = *ModelWeights::Load(*checkpoint_, cpu_, {.ffn_layout = FfnLayout::kBundles});
  refuse(bundles, {.mode = NeuronMode::kThreshold, .thresholds = &thresholds}, {"bundles"});
}

}  // namespace
}  // namespace thermocline
