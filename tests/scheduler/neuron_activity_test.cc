// What the recorder shows is what fired, on one device and on two, and watching changes nothing.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/neuron_activity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>

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

// ---- The order of neurons.

TEST(NeuronOrderTest, AcceleratorsComeFirstThenTheMostFrequent) {
  const ModelConfig config{.n_layers = 2, .d_ff = 6};
  Plan plan{.devices = {{.name = "cpu"}, {.name = "host", .kind = DeviceKind::kHost}}};
  plan.layers = {{.units = {{.device = 0, .probability = 0.1, .neurons = {0, 3}},
                            {.device = 1, .probability = 0.5, .neurons = {4}},
                            {.device = 0, .probability = 0.3, .neurons = {2}},
                            {.device = 1, .probability = 0.9, .neurons = {1, 5}}}},
                 {.units = {{.device = 0, .neurons = {0, 1, 2, 3, 4, 5}}}}};
  const NeuronActivity activity(config, &plan);
  EXPECT_EQ(activity.columns(), 6);
  EXPECT_EQ(activity.hot(), (std::vector<int64_t>{3, 0}));
  const std::vector<uint32_t> first_layer = {1, 5, 4, 2, 0, 3};
  for (int64_t rank = 0; rank < 6; ++rank) {
    EXPECT_EQ(activity.column_of(0, first_layer[static_cast<size_t>(rank)]), rank);
    EXPECT_EQ(activity.column_of(1, static_cast<uint32_t>(rank)), rank);
  }
}

TEST(NeuronOrderTest, WithoutAPlanNeuronsStandByNumberAndAreCold) {
  const ModelConfig config{.n_layers = 1, .d_ff = 1300};
  const NeuronActivity activity(config, nullptr);
  EXPECT_EQ(activity.columns(), NeuronActivity::kMostColumns);
  EXPECT_EQ(activity.hot(), std::vector<int64_t>{0});
  for (uint32_t neuron = 0; neuron < 1300; ++neuron)
    EXPECT_EQ(activity.column_of(0, neuron), neuron * 512 / 1300);
}

TEST(NeuronOrderTest, CountsAreOfTheLastStep) {
  const ModelConfig config{.n_layers = 2, .d_ff = 1024};
  NeuronActivity activity(config, nullptr);
  ActivitySnapshot snapshot;
  EXPECT_FALSE(activity.Update(snapshot));
  EXPECT_FALSE(activity.watched());
  activity.AddWatcher();
  EXPECT_TRUE(activity.watched());
  activity.BeginStep();
  activity.Fire(0, 7);
  activity.EndStep(1, true, {});
  activity.BeginStep();
  for (const uint32_t neuron : {0, 1, 1023}) activity.Fire(1, neuron);
  activity.EndStep(3, true, {.active_neurons = 3});
  ASSERT_TRUE(activity.Update(snapshot));
  EXPECT_EQ(snapshot.step, 2u);
  EXPECT_EQ(snapshot.n_tokens, 3);
  EXPECT_EQ(snapshot.figures.active_neurons, 3);
  std::vector<uint16_t> expected(1024);
  expected[512] = 2;
  expected[1023] = 1;
  EXPECT_EQ(snapshot.counts, expected);
  EXPECT_FALSE(activity.Update(snapshot));
  activity.EndStep(1, false, {});
  ASSERT_TRUE(activity.Update(snapshot));
  EXPECT_FALSE(snapshot.known);
  EXPECT_EQ(snapshot.counts, std::vector<uint16_t>(1024));
  activity.RemoveWatcher();
  EXPECT_FALSE(activity.watched());
}

// ---- What the transformer tells.

// Each layer's neurons whose gate is above zero for the pass.
class GateWatcher final : public FeedForwardObserver {
 public:
  void OnGate(int64_t layer, MatrixView<const float>, MatrixView<const float> gate) override {
    for (int64_t t = 0; t < gate.rows; ++t) {
      for (int64_t i = 0; i < gate.cols; ++i)
        if (gate.row(t)[static_cast<size_t>(i)] > 0) fired[layer].insert(static_cast<uint32_t>(i));
    }
  }
  std::map<int64_t, std::set<uint32_t>> fired;
};

struct Decoded {
  std::vector<float> logits;  // of the last step
  ActivitySnapshot snapshot;
};

class NeuronActivityTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_ = TypedLlamaConfig();
    config_.n_layers = 2;
    config_.d_model = 64;
    config_.d_ff = 640;  // more than columns
    config_.n_heads = 2;
    config_.n_kv_heads = 1;
    config_.d_head = config_.rope_dimensions = 32;
    WriteTypedLlama(path_, config_, ElementType::kF32, 5);
    checkpoint_.emplace(*Checkpoint::Open(path_, {.load_tokenizer = false}));
    team_ = *ThreadTeam::Create(2);
  }

  std::unique_ptr<Transformer> Load(const TransformerOptions& options) {
    const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
    weights_.push_back(std::make_unique<ModelWeights>(
        *ModelWeights::Load(*checkpoint_, cpu, {.ffn_layout = FfnLayout::kBundles})));
    auto transformer = Transformer::Create(config_, *weights_.back(), cpu, options);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    return *std::move(transformer);
  }

  // The prompt as prefill, then the last tokens as one decode step.
  static Decoded Decode(Transformer& transformer, size_t last_tokens, Quality quality = Quality::kExact) {
    const std::vector<TokenId> tokens = RandomTokens(12, 3);
    const size_t prompt = tokens.size() - last_tokens;
    Decoded decoded;
    Matrix<float> logits = *Matrix<float>::Create(12, transformer.n_vocab());
    const absl::Status prefill =
        transformer.ForwardAll({.tokens = std::span(tokens).first(prompt), .kind = StepKind::kPrefill},
                               logits.view().Rows(0, static_cast<int64_t>(prompt)));
    EXPECT_TRUE(prefill.ok()) << prefill;
    EXPECT_FALSE(transformer.activity().Update(decoded.snapshot)) << "prefill steps are not shown";
    const auto rows = logits.view().Rows(0, static_cast<int64_t>(last_tokens));
    const absl::Status step = transformer.ForwardAll({.tokens = std::span(tokens).subspan(prompt),
                                                      .first_position = static_cast<int64_t>(prompt),
                                                      .quality = quality},
                                                     rows);
    EXPECT_TRUE(step.ok()) << step;
    decoded.logits.assign(rows.data, rows.data + rows.rows * rows.cols);
    transformer.activity().Update(decoded.snapshot);
    return decoded;
  }

  // What a dense pass over the same tokens says, in the columns of `activity`.
  std::vector<uint16_t> TrueCounts(const NeuronActivity& activity, size_t last_tokens) {
    const auto dense = Load({});
    GateWatcher watcher;
    const std::vector<TokenId> tokens = RandomTokens(12, 3);
    const size_t prompt = tokens.size() - last_tokens;
    Matrix<float> logits = *Matrix<float>::Create(12, dense->n_vocab());
    EXPECT_TRUE(dense
                    ->ForwardAll({.tokens = std::span(tokens).first(prompt), .kind = StepKind::kPrefill},
                                 logits.view().Rows(0, static_cast<int64_t>(prompt)))
                    .ok());
    dense->SetFeedForwardObserver(&watcher);
    EXPECT_TRUE(dense
                    ->ForwardAll({.tokens = std::span(tokens).subspan(prompt),
                                  .first_position = static_cast<int64_t>(prompt)},
                                 logits.view().Rows(0, static_cast<int64_t>(last_tokens)))
                    .ok());
    std::vector<uint16_t> counts(static_cast<size_t>(activity.n_layers() * activity.columns()));
    for (const auto& [layer, neurons] : watcher.fired) {
      for (const uint32_t neuron : neurons)
        ++counts[static_cast<size_t>(layer * activity.columns() + activity.column_of(layer, neuron))];
    }
    return counts;
  }

  void ExpectTrueActivity(const TransformerOptions& options, Quality quality = Quality::kExact) {
    for (const size_t last_tokens : {1, 5}) {
      const auto alone = Load(options);
      const Decoded unwatched = Decode(*alone, last_tokens, quality);
      EXPECT_EQ(unwatched.snapshot.step, 0u);
      const auto watched = Load(options);
      watched->activity().AddWatcher();
      const Decoded decoded = Decode(*watched, last_tokens, quality);
      EXPECT_EQ(decoded.logits, unwatched.logits);
      EXPECT_EQ(decoded.snapshot.step, 1u);
      EXPECT_TRUE(decoded.snapshot.known);
      EXPECT_EQ(decoded.snapshot.n_tokens, static_cast<int64_t>(last_tokens));
      EXPECT_EQ(decoded.snapshot.counts, TrueCounts(watched->activity(), last_tokens));
      EXPECT_EQ(decoded.snapshot.figures, watched->last_step());
      int64_t fired = 0;
      for (const uint16_t count : decoded.snapshot.counts) fired += count;
      EXPECT_EQ(fired, decoded.snapshot.figures.active_neurons);
      EXPECT_GT(fired, 0);
    }
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.Path("model.gguf");
  ModelConfig config_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<ThreadTeam> team_;
  std::vector<std::unique_ptr<ModelWeights>> weights_;
};

TEST_F(NeuronActivityTest, ExactStepsOnTheCpu) { ExpectTrueActivity({.mode = NeuronMode::kExact}); }

TEST_F(NeuronActivityTest, ExactStepsOnTheCpuAndTheEmulatedHost) {
  const Plan plan = RandomPlan(config_, 0.4, 7);
  ExpectTrueActivity({.mode = NeuronMode::kExact, .plan = &plan});
  ExpectTrueActivity({.mode = NeuronMode::kExact, .plan = &plan, .keep_host_copy = true});
}

// Predictors that mark every neuron leave none out.
TEST_F(NeuronActivityTest, PredictedSteps) {
  const PredictorSet all = SignPredictors(config_, -64);
  const Plan split = RandomPlan(config_, 0.4, 9);
  for (const Plan* plan : {static_cast<const Plan*>(nullptr), &split}) {
    ExpectTrueActivity({.mode = NeuronMode::kPredicted, .predictors = &all, .plan = plan}, Quality::kFast);
    ExpectTrueActivity({.mode = NeuronMode::kPredicted, .predictors = &all, .plan = plan});
  }
}

TEST_F(NeuronActivityTest, WhatIsNotMarkedIsNotShown) {
  const PredictorSet some = SignPredictors(config_, 8);
  for (const bool borrowed : {false, true}) {
    const Plan plan = RandomPlan(config_, 0.4, 11);
    const auto transformer = Load(
        {.mode = NeuronMode::kPredicted, .predictors = &some, .plan = &plan, .keep_host_copy = borrowed});
    transformer->activity().AddWatcher();
    const Decoded decoded = Decode(*transformer, 1, Quality::kFast);
    int64_t fired = 0;
    for (const uint16_t count : decoded.snapshot.counts) fired += count;
    EXPECT_EQ(fired, transformer->last_step().active_neurons);
    EXPECT_LT(fired, transformer->last_step().marked_neurons);
    EXPECT_GT(fired, 0);
  }
}

TEST_F(NeuronActivityTest, DenseStepsSayThatTheyDoNotKnow) {
  const auto transformer = Load({.mode = NeuronMode::kDense});
  transformer->activity().AddWatcher();
  const Decoded decoded = Decode(*transformer, 1);
  EXPECT_EQ(decoded.snapshot.step, 1u);
  EXPECT_FALSE(decoded.snapshot.known);
}

}  // namespace
}  // namespace thermocline
