// Modes and splits of the transformer: the same model over one device and over two.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <optional>
#include <random>

#include "model/checkpoint.h"
#include "scheduler/transformer.h"
#include "tests/support/split_plans.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/typed_llama.h"

namespace thermocline {
namespace {

using testing::RandomPlan;
using testing::RandomTokens;
using testing::SignPredictors;

constexpr ElementType kTypes[] = {ElementType::kF32,  ElementType::kF16,  ElementType::kBF16,
                                  ElementType::kQ8_0, ElementType::kQ4_0, ElementType::kQ4_1,
                                  ElementType::kQ5_0, ElementType::kQ5_1, ElementType::kQ4_K,
                                  ElementType::kQ5_K, ElementType::kQ6_K};

// The split changes only the order in which F32 sums are added up, whatever the type of the weights: a few
// roundings of the largest logit, through three layers.
constexpr float kSplitTolerance = 2e-4f;

float LargestMagnitude(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

void ExpectClose(std::span<const float> actual, std::span<const float> expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  float largest = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(std::isfinite(actual[i])) << what;
    largest = std::max(largest, std::abs(actual[i] - expected[i]));
  }
  EXPECT_LE(largest, kSplitTolerance * LargestMagnitude(expected)) << what;
}

class HybridTest : public ::testing::Test {
 protected:
  struct Setup {
    NeuronMode mode = NeuronMode::kDense;
    const Plan* plan = nullptr;
    const PredictorSet* predictors = nullptr;
    int threads = 2;
    bool keep_host_copy = false;
  };
  // One model loaded in one way.
  struct Model {
    std::unique_ptr<ThreadTeam> team;
    CpuContext cpu;
    ModelWeights weights;
    absl::StatusOr<std::unique_ptr<Transformer>> transformer = nullptr;
  };

  void Open(ElementType type, uint32_t seed, int64_t n_layers = 3) {
    ModelConfig config = TypedLlamaConfig();
    config.n_layers = n_layers;
    const std::string path = folder_.Path("model.gguf");
    WriteTypedLlama(path, config, type, seed);
    checkpoint_.emplace(*Checkpoint::Open(path, {.load_tokenizer = false}));
  }

  std::unique_ptr<Model> Load(const Setup& setup) const {
    auto model = std::make_unique<Model>();
    model->team = *ThreadTeam::Create(setup.threads);
    model->cpu = {.team = model->team.get(), .kernels = &BestKernels()};
    model->weights = *ModelWeights::Load(*checkpoint_, model->cpu);
    model->transformer = Transformer::Create(checkpoint_->config, model->weights, model->cpu,
                                             {.mode = setup.mode,
                                              .predictors = setup.predictors,
                                              .plan = setup.plan,
                                              .keep_host_copy = setup.keep_host_copy});
    return model;
  }

  // Logits of every token, the text in decode steps of `step_tokens`.
  static std::vector<float> Decode(Transformer& transformer, std::span<const TokenId> tokens,
                                   size_t step_tokens, Quality quality = Quality::kExact) {
    std::vector<float> all;
    for (size_t begin = 0; begin < tokens.size(); begin += step_tokens) {
      const auto step = tokens.subspan(begin, std::min(step_tokens, tokens.size() - begin));
      Matrix<float> logits = *Matrix<float>::Create(static_cast<int64_t>(step.size()), transformer.n_vocab());
      const absl::Status status = transformer.ForwardAll(
          {.tokens = step, .first_position = static_cast<int64_t>(begin), .quality = quality}, logits.view());
      EXPECT_TRUE(status.ok()) << status;
      all.insert(all.end(), logits.data(), logits.data() + logits.rows() * logits.cols());
    }
    return all;
  }

  std::vector<float> Decode(const Setup& setup, std::span<const TokenId> tokens, size_t step_tokens,
                            Quality quality = Quality::kExact) const {
    const auto model = Load(setup);
    EXPECT_TRUE(model->transformer.ok()) << model->transformer.status();
    return Decode(**model->transformer, tokens, step_tokens, quality);
  }

  const TemporaryFolder folder_;
  std::optional<Checkpoint> checkpoint_;
};

TEST_F(HybridTest, ExactIsDenseBitForBitOnOneDevice) {
  const std::vector<TokenId> tokens = RandomTokens(20, 1);
  for (const ElementType type : kTypes) {
    Open(type, 7);
    const std::vector<float> dense = Decode({.mode = NeuronMode::kDense}, tokens, 1);
    for (const int threads : {1, 2, 3, 4})
      EXPECT_EQ(Decode({.mode = NeuronMode::kExact, .threads = threads}, tokens, 1), dense)
          << NameOf(type) << ", " << threads << " threads";
    for (const size_t step : {2, 5, 16, 20})
      EXPECT_EQ(Decode({.mode = NeuronMode::kExact}, tokens, step), dense)
          << NameOf(type) << ", steps of " << step;
  }
}

// Splits at random, and the borders: none, a tenth, half and all of the neurons on the accelerator.
TEST_F(HybridTest, EverySplitGivesTheDenseAnswer) {
  const std::vector<TokenId> tokens = RandomTokens(20, 2);
  std::mt19937 random(3);
  for (const ElementType type : kTypes) {
    Open(type, 8);
    const std::vector<float> dense = Decode({.mode = NeuronMode::kDense}, tokens, 1);
    for (const double hot : {0.0, 0.1, 0.5, 1.0, std::uniform_real_distribution(0.0, 1.0)(random)}) {
      const Plan plan = RandomPlan(checkpoint_->config, hot, random());
      const size_t step = 1 + random() % 16;
      const std::string what = fmt::format("{}, {:.2f} hot, steps of {}", NameOf(type), hot, step);
      for (const NeuronMode mode : {NeuronMode::kDense, NeuronMode::kExact})
        ExpectClose(Decode({.mode = mode, .plan = &plan}, tokens, step), dense, what);
    }
  }
}

TEST_F(HybridTest, RunsAndThreadCountsGiveTheSameBits) {
  const std::vector<TokenId> tokens = RandomTokens(20, 4);
  std::mt19937 random(5);
  for (const ElementType type : {ElementType::kF16, ElementType::kQ4_0}) {
    Open(type, 9);
    for (int repetition = 0; repetition < 4; ++repetition) {
      const Plan plan = RandomPlan(checkpoint_->config, 0.4, random());
      const PredictorSet predictors = SignPredictors(checkpoint_->config, 4);
      const std::vector<float> exact =
          Decode({.mode = NeuronMode::kExact, .plan = &plan, .threads = 1}, tokens, 3);
      const Setup predicted{
          .mode = NeuronMode::kPredicted, .plan = &plan, .predictors = &predictors, .threads = 1};
      const std::vector<float> marked = Decode(predicted, tokens, 3, Quality::kBalanced);
      EXPECT_NE(marked, exact);  // something was left out
      for (const int threads : {1, 2, 3, 4}) {
        EXPECT_EQ(Decode({.mode = NeuronMode::kExact, .plan = &plan, .threads = threads}, tokens, 7), exact);
        Setup again = predicted;
        again.threads = threads;
        EXPECT_EQ(Decode(again, tokens, 11, Quality::kBalanced), marked);
      }
    }
  }
}

TEST_F(HybridTest, MarkingEveryNeuronIsExact) {
  const std::vector<TokenId> tokens = RandomTokens(20, 6);
  Open(ElementType::kQ8_0, 10);
  const Plan plan = RandomPlan(checkpoint_->config, 0.5, 11);
  const PredictorSet all = SignPredictors(checkpoint_->config, -256);
  for (const Plan* placed : {static_cast<const Plan*>(nullptr), &plan}) {
    EXPECT_EQ(Decode({.mode = NeuronMode::kPredicted, .plan = placed, .predictors = &all}, tokens, 5,
                     Quality::kFast),
              Decode({.mode = NeuronMode::kExact, .plan = placed}, tokens, 5));
  }
}

// One layer: what enters the predictors is the same to the last bit, so the same neurons are marked.
TEST_F(HybridTest, PredictedSplitsGiveThePredictedAnswer) {
  const std::vector<TokenId> tokens = RandomTokens(12, 7);
  Open(ElementType::kF16, 12, /*n_layers=*/1);
  const PredictorSet predictors = SignPredictors(checkpoint_->config, 2);
  const std::vector<float> alone =
      Decode({.mode = NeuronMode::kPredicted, .predictors = &predictors}, tokens, 1, Quality::kBalanced);
  for (const uint32_t seed : {1u, 2u, 3u, 4u}) {
    const Plan plan = RandomPlan(checkpoint_->config, 0.3, seed);
    ExpectClose(Decode({.mode = NeuronMode::kPredicted, .plan = &plan, .predictors = &predictors}, tokens, 4,
                       Quality::kBalanced),
                alone, fmt::format("plan {}", seed));
  }
}

TEST_F(HybridTest, DevicesWithoutMarkedNeuronsAreNotAsked) {
  const std::vector<TokenId> tokens = RandomTokens(6, 8);
  Open(ElementType::kF32, 13);
  const Plan plan = RandomPlan(checkpoint_->config, 0.5, 14);
  const PredictorSet none = SignPredictors(checkpoint_->config, 256);
  const auto model = Load({.mode = NeuronMode::kPredicted, .plan = &plan, .predictors = &none});
  Transformer& transformer = **model->transformer;
  const std::vector<float> logits = Decode(transformer, tokens, 1, Quality::kBalanced);
  EXPECT_TRUE(std::isfinite(LargestMagnitude(logits)));
  // Both devices of all three layers, every token.
  EXPECT_EQ(transformer.execution_stats().skipped_operators, 6u * 3 * 2);
  EXPECT_EQ(transformer.last_step().marked_neurons, 0);
  Decode(transformer, tokens, 1, Quality::kExact);
  EXPECT_EQ(transformer.execution_stats().skipped_operators, 6u * 3 * 2);
  EXPECT_EQ(transformer.last_step().marked_neurons, 3 * 512);
}

TEST_F(HybridTest, HotNeuronsLeaveHostMemoryUnlessTheyAreKept) {
  Open(ElementType::kF16, 15);
  const std::vector<TokenId> tokens = RandomTokens(10, 9);
  const Plan plan = RandomPlan(checkpoint_->config, 0.5, 16);
  const auto moved = Load({.mode = NeuronMode::kExact, .plan = &plan});
  const auto kept = Load({.mode = NeuronMode::kExact, .plan = &plan, .keep_host_copy = true});
  for (const LayerWeights& layer : moved->weights.layers) EXPECT_EQ(layer.ffn.bundle_storage.size_bytes(), 0);
  for (const LayerWeights& layer : kept->weights.layers) EXPECT_NE(layer.ffn.bundles.data, nullptr);
  // Each device holds its own neurons and no other's.
  int64_t hot = 0;
  for (const PlanLayer& layer : plan.layers) hot += static_cast<int64_t>(layer.units.back().neurons.size());
  const int64_t stride = kept->weights.layers[0].ffn.bundles.stride_bytes;
  EXPECT_GE((*moved->transformer)->devices()[1]->used_bytes(), hot * stride);
  const std::vector<float> expected = Decode(**moved->transformer, tokens, 2);
  ExpectClose(Decode(**kept->transformer, tokens, 2), expected, "kept");
  const auto dense = Load({.mode = NeuronMode::kDense, .plan = &plan, .keep_host_copy = true});
  ExpectClose(Decode(**dense->transformer, tokens, 2), expected, "kept, dense");
}

TEST_F(HybridTest, APlanThatDoesNotFitIsRefusedBeforeAnythingIsCopied) {
  Open(ElementType::kF16, 17);
  Plan plan = RandomPlan(checkpoint_->config, 0.5, 18);
  const auto fits = Load({.mode = NeuronMode::kExact, .plan = &plan});
  ASSERT_TRUE(fits->transformer.ok());
  const int64_t used = (*fits->transformer)->devices()[1]->used_bytes();
  plan.devices[1].budget_bytes = used;  // to the byte
  EXPECT_TRUE(Load({.mode = NeuronMode::kExact, .plan = &plan})->transformer.ok());
  plan.devices[1].budget_bytes = used - 1;
  const auto refused = Load({.mode = NeuronMode::kExact, .plan = &plan});
  EXPECT_EQ(refused->transformer.status().code(), absl::StatusCode::kResourceExhausted);
  const std::string message(refused->transformer.status().message());
  EXPECT_NE(message.find("host"), std::string::npos) << message;
  EXPECT_NE(message.find(std::to_string(used)), std::string::npos) << message;
  EXPECT_NE(message.find(std::to_string(used - 1)), std::string::npos) << message;
  for (const LayerWeights& layer : refused->weights.layers) EXPECT_NE(layer.ffn.bundles.data, nullptr);
}

TEST_F(HybridTest, CountsWhatCrossesTheLink) {
  Open(ElementType::kF32, 30);
  const ModelConfig& config = checkpoint_->config;
  const std::vector<TokenId> tokens = RandomTokens(6, 31);
  // Attention and head on the CPU, neurons on both: the input to the accelerator and its partial sum back.
  Plan plan = RandomPlan(config, 0.5, 32);
  plan.devices[1].head_bytes = 0;
  for (PlanLayer& layer : plan.layers)
    layer.attention_device = layer.kv_cache_device = layer.predictor_device = 0;
  const auto split = Load({.mode = NeuronMode::kExact, .plan = &plan});
  ASSERT_TRUE(split->transformer.ok()) << split->transformer.status();
  Decode(**split->transformer, tokens, 2);
  const int64_t bytes =
      std::ssize(tokens) * config.n_layers * 2 * config.d_model * static_cast<int64_t>(sizeof(float));
  EXPECT_EQ((*split->transformer)->execution_stats().link_bytes, static_cast<uint64_t>(bytes));
  const auto alone = Load({.mode = NeuronMode::kExact});
  Decode(**alone->transformer, tokens, 2);
  EXPECT_EQ((*alone->transformer)->execution_stats().link_bytes, 0u);
}

TEST_F(HybridTest, RefusesWhatItCannotRun) {
  Open(ElementType::kF32, 19);
  EXPECT_EQ(Load({.mode = NeuronMode::kPredicted})->transformer.status().code(),
            absl::StatusCode::kInvalidArgument);
  Plan apart = RandomPlan(checkpoint_->config, 0.5, 21);
  apart.layers[1].kv_cache_device = 1 - apart.layers[1].attention_device;
  EXPECT_EQ(Load({.plan = &apart})->transformer.status().code(), absl::StatusCode::kInvalidArgument);
  PredictorSet narrow = SignPredictors(checkpoint_->config, 0);
  narrow.model.d_ff = 511;
  EXPECT_EQ(Load({.mode = NeuronMode::kPredicted, .predictors = &narrow})->transformer.status().code(),
            absl::StatusCode::kInvalidArgument);
  const auto exact = Load({.mode = NeuronMode::kExact});
  std::vector<float> logits(64);
  const TokenId token = 1;
  EXPECT_EQ((*exact->transformer)->Forward({.tokens = {&token, 1}, .quality = Quality::kFast}, logits).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(HybridTest, AuditsCompareWithTheExactStepAndChangeNothing) {
  Open(ElementType::kF32, 22);
  const std::vector<TokenId> tokens = RandomTokens(16, 10);
  const Plan plan = RandomPlan(checkpoint_->config, 0.5, 23);
  const PredictorSet all = SignPredictors(checkpoint_->config, -256);
  const PredictorSet some = SignPredictors(checkpoint_->config, 3);
  for (const Plan* placed : {static_cast<const Plan*>(nullptr), &plan}) {
    const auto everything = Load({.mode = NeuronMode::kPredicted, .plan = placed, .predictors = &all});
    std::vector<float> logits(64);
    const auto complete =
        (*everything->transformer)
            ->ForwardAudited({.tokens = {tokens.data(), 1}, .quality = Quality::kBalanced}, logits);
    ASSERT_TRUE(complete.ok()) << complete.status();
    EXPECT_GT(complete->active_neurons, 0);
    EXPECT_EQ(complete->marked_active_neurons, complete->active_neurons);
    EXPECT_EQ(complete->kl_divergence, 0);
    EXPECT_TRUE(complete->same_top);

    const Setup setup{.mode = NeuronMode::kPredicted, .plan = placed, .predictors = &some};
    const auto plain = Load(setup), audited = Load(setup);
    std::vector<float> expected(64);
    for (size_t t = 0; t < tokens.size(); ++t) {
      const StepInput step{.tokens = {&tokens[t], 1},
                           .first_position = static_cast<int64_t>(t),
                           .quality = Quality::kBalanced};
      ASSERT_TRUE((*plain->transformer)->Forward(step, expected).ok());
      const auto audit = (*audited->transformer)->ForwardAudited(step, logits);
      ASSERT_TRUE(audit.ok());
      EXPECT_EQ(logits, expected) << t;
      EXPECT_LT(audit->marked_active_neurons, audit->active_neurons);
      EXPECT_GT(audit->kl_divergence, 0);
    }
  }
}

}  // namespace
}  // namespace thermocline
