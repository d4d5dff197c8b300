// All layers from samples: sizes, limits, recall, determinism, refusals.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/train_predictors.h"

#include <gtest/gtest.h>

#include "tests/predictor/planted_samples.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using testing::FlatFrequencies;
using testing::Plant;
using testing::Planted;
using testing::PlantedOptions;
using testing::SkewedFrequencies;

constexpr size_t kDFf = 128;
constexpr int64_t kDModel = 32;

// Rows as long as those of a wider model, where a neuron less is worth a larger predictor.
constexpr NeuronBytes kBytes{.gate = 4096, .up_down = 512};

constexpr auto kGoOn = [](const TrainingProgress&) { return true; };

// A flat and a skewed layer of the same sparsity, each of a rule that needs more than the smallest predictor:
// 24 dimensions take a pair of hidden units each.
const Planted& FlatAndSkewed() {
  static const Planted planted = Plant({{.rank = 24, .frequencies = FlatFrequencies(kDFf, 0.1)},
                                        {.rank = 24, .frequencies = SkewedFrequencies(kDFf, 0.1)}},
                                       {.d_model = kDModel});
  return planted;
}

class TrainPredictorsTest : public ::testing::Test {
 protected:
  static std::vector<LayerTraining> Layers(const Planted& planted) {
    std::vector<LayerTraining> layers;
    for (size_t l = 0; l < planted.gates.size(); ++l) {
      layers.push_back({.gate = planted.gate(l), .bytes = kBytes});
    }
    return layers;
  }
  static ModelIdentity Model(const Planted& planted) {
    return {.sha256 = std::string(64, 'a'),
            .n_layers = planted.samples.n_layers(),
            .d_model = planted.samples.d_model(),
            .d_ff = planted.samples.d_ff()};
  }
  static TrainingOptions Options() {
    return {.choice = PredictorChoice::kMlp, .most_bytes = 1 << 20, .most_flops = 1e10};
  }
  absl::StatusOr<PredictorSet> Train(const Planted& planted, const TrainingOptions& options,
                                     int threads = 2) const {
    const auto team = *ThreadTeam::Create(threads);
    return TrainPredictors({.team = team.get(), .kernels = &BestKernels()}, planted.samples, Layers(planted),
                           Model(planted), options, kGoOn);
  }
};

int64_t TotalBytes(const PredictorSet& predictors) {
  int64_t total = 0;
  for (const LayerPredictor& layer : predictors.layers)
    total += layer.SizeBytes(predictors.model.d_model, predictors.model.d_ff);
  return total;
}

// What every result must be.
void ExpectInOrder(const PredictorSet& predictors, const TrainingOptions& options) {
  EXPECT_EQ(predictors.target_recall, options.target_recall);
  EXPECT_EQ(predictors.fast_recall, options.fast_recall);
  EXPECT_LE(TotalBytes(predictors), options.most_bytes);
  for (const LayerPredictor& layer : predictors.layers) {
    EXPECT_GE(layer.balanced.recall, options.target_recall);
    EXPECT_GE(layer.fast.recall, options.fast_recall);
    EXPECT_LE(layer.balanced_threshold, layer.fast_threshold);
    EXPECT_LE(layer.fast.marked, layer.balanced.marked);
    EXPECT_EQ(layer.hidden % 32, 0);
  }
}

TEST_F(TrainPredictorsTest, SkewedLayersGetSmallerPredictorsThanFlatOnes) {
  TrainingOptions options = Options();
  options.most_flops = 1.5e11;
  const auto predictors = Train(FlatAndSkewed(), options);
  ASSERT_TRUE(predictors.ok()) << predictors.status();
  ExpectInOrder(*predictors, options);
  ASSERT_EQ(predictors->layers.size(), 2u);
  EXPECT_LT(predictors->layers[1].hidden, predictors->layers[0].hidden);
  EXPECT_GT(predictors->layers[0].balanced.precision, 0.2);  // guessing would give 0.1
}

TEST_F(TrainPredictorsTest, KeepTheLimitOfBytes) {
  TrainingOptions options = Options();
  options.most_flops = 1e9;  // sizes matter here, not quality
  options.most_bytes = 2 * PredictorBytes(32, kDModel, kDFf);
  const auto predictors = Train(FlatAndSkewed(), options);
  ASSERT_TRUE(predictors.ok()) << predictors.status();
  ExpectInOrder(*predictors, options);
  options.most_bytes -= 1;
  ExpectRefusal(Train(FlatAndSkewed(), options).status(), {std::to_string(options.most_bytes)});
}

Planted Small(const PlantedOptions& options = {
                  .d_model = kDModel, .training_tokens = 600, .held_out_tokens = 300}) {
  return Plant({{.rank = 8, .frequencies = FlatFrequencies(kDFf, 0.1)}}, options);
}

void ExpectSame(const PredictorSet& a, const PredictorSet& b) {
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t l = 0; l < a.layers.size(); ++l) {
    EXPECT_EQ(a.layers[l].hidden, b.layers[l].hidden);
    EXPECT_EQ(a.layers[l].w1.blocks, b.layers[l].w1.blocks);
    EXPECT_EQ(a.layers[l].w2.blocks, b.layers[l].w2.blocks);
    EXPECT_EQ(a.layers[l].b1, b.layers[l].b1);
    EXPECT_EQ(a.layers[l].b2, b.layers[l].b2);
    EXPECT_EQ(a.layers[l].balanced_threshold, b.layers[l].balanced_threshold);
    EXPECT_EQ(a.layers[l].fast_threshold, b.layers[l].fast_threshold);
    EXPECT_EQ(a.layers[l].balanced.marked, b.layers[l].balanced.marked);
  }
}

TEST_F(TrainPredictorsTest, AreTheSameOnAnyNumberOfThreadsAndFromAFile) {
  TrainingOptions options = Options();
  options.most_flops = 2e9;
  const Planted in_memory = Small();
  const PredictorSet expected = *Train(in_memory, options);
  ExpectSame(*Train(in_memory, options, 1), expected);
  ExpectSame(*Train(in_memory, options, 3), expected);
  const TemporaryFolder folder;
  const Planted in_file = Small({.d_model = kDModel,
                                 .training_tokens = 600,
                                 .held_out_tokens = 300,
                                 .memory_limit_bytes = 1,
                                 .spool_folder = folder.path()});
  ASSERT_TRUE(in_file.samples.spooled());
  ExpectSame(*Train(in_file, options), expected);
}

TEST_F(TrainPredictorsTest, SignPredictorsReachTheTargetWithoutTraining) {
  TrainingOptions options = Options();
  options.choice = PredictorChoice::kSign;
  // Neurons that fire when most of the gate row's signs agree.
  const Planted planted = Plant({{.rank = 32, .frequencies = FlatFrequencies(kDFf, 0.5)}},
                                {.d_model = kDModel, .training_tokens = 300, .held_out_tokens = 1000});
  const auto predictors = Train(planted, options);
  ASSERT_TRUE(predictors.ok()) << predictors.status();
  ExpectInOrder(*predictors, options);
  EXPECT_EQ(predictors->layers[0].kind, PredictorKind::kSign);
  EXPECT_EQ(predictors->layers[0].hidden, 0);
  EXPECT_GT(predictors->layers[0].balanced.precision, 0.54);  // guessing would give 0.5
  EXPECT_GE(predictors->layers[0].balanced_threshold, -kDModel);
  EXPECT_LE(predictors->layers[0].fast_threshold, kDModel);
}

TEST_F(TrainPredictorsTest, AutoTakesWhicheverCostsLess) {
  const Planted planted = Small();
  TrainingOptions options = Options();
  options.most_flops = 3e10;
  const auto cost = [&](PredictorChoice choice) {
    options.choice = choice;
    const PredictorSet predictors = *Train(planted, options);
    const LayerPredictor& layer = predictors.layers[0];
    return std::pair(layer.kind, PredictedCost(layer.balanced, layer.SizeBytes(kDModel, kDFf), kDFf, kBytes));
  };
  const auto mlp = cost(PredictorChoice::kMlp), sign = cost(PredictorChoice::kSign);
  const auto chosen = cost(PredictorChoice::kAuto);
  EXPECT_EQ(chosen.first, sign.second <= mlp.second ? PredictorKind::kSign : PredictorKind::kMlp);
  EXPECT_DOUBLE_EQ(chosen.second, std::min(mlp.second, sign.second));
}

// A layer that never fires must not break the others.
TEST_F(TrainPredictorsTest, SilentLayersAreMarkedNowhere) {
  ActivationSamples samples = *ActivationSamples::Create(
      {.n_layers = 1, .d_model = 64, .d_ff = 64, .training_tokens = 50, .held_out_tokens = 50});
  auto x = *Matrix<float>::Create(50, 64);
  for (int64_t t = 0; t < 50; ++t) x.row(t)[static_cast<size_t>(t)] = 1;
  const auto none = *Matrix<uint64_t>::Create(50, 1);
  ASSERT_TRUE(samples.Append(SamplePart::kTraining, 0, x.view(), none.view()).ok());
  ASSERT_TRUE(samples.Append(SamplePart::kHeldOut, 0, x.view(), none.view()).ok());
  Planted planted{.samples = std::move(samples), .gates = {}};
  planted.gates.push_back(*Matrix<float>::Create(64, 64));
  for (const PredictorChoice choice :
       {PredictorChoice::kMlp, PredictorChoice::kSign, PredictorChoice::kAuto}) {
    TrainingOptions options = Options();
    options.choice = choice;
    options.most_flops = 1e9;
    const auto predictors = Train(planted, options);
    ASSERT_TRUE(predictors.ok()) << predictors.status();
    ExpectInOrder(*predictors, options);
    // The signs of nothing agree everywhere, so that no threshold in range tells silence there.
    if (choice == PredictorChoice::kMlp) {
      EXPECT_EQ(predictors->layers[0].balanced.marked, 0);
    }
  }
}

TEST_F(TrainPredictorsTest, ReportsProgressThatGrows) {
  const Planted planted = Small();
  const auto team = *ThreadTeam::Create(2);
  double last = 0;
  TrainingOptions options = Options();
  options.most_flops = 1e9;
  const auto predictors =
      TrainPredictors({.team = team.get(), .kernels = &BestKernels()}, planted.samples, Layers(planted),
                      Model(planted), options, [&](const TrainingProgress& progress) {
                        EXPECT_GE(progress.share_done, last);
                        EXPECT_LE(progress.share_done, 1);
                        last = progress.share_done;
                        return true;
                      });
  ASSERT_TRUE(predictors.ok()) << predictors.status();
  EXPECT_GT(last, 0.9);
}

TEST_F(TrainPredictorsTest, CanBeCancelledInEveryStep) {
  const Planted planted = Small();
  const auto team = *ThreadTeam::Create(2);
  TrainingOptions options = Options();
  for (const std::string_view step : {"sign", "size search", "training"}) {
    options.choice = step == "sign" ? PredictorChoice::kSign : PredictorChoice::kMlp;
    const auto predictors = TrainPredictors(
        {.team = team.get(), .kernels = &BestKernels()}, planted.samples, Layers(planted), Model(planted),
        options, [&](const TrainingProgress& progress) { return progress.step != step; });
    EXPECT_TRUE(absl::IsCancelled(predictors.status())) << step << ": " << predictors.status();
  }
}

TEST_F(TrainPredictorsTest, RefuseOptionsOutOfRange) {
  const Planted planted = Small();
  TrainingOptions options = Options();
  options.target_recall = 1;
  ExpectRefusal(Train(planted, options).status(), {"target_recall is 1"});
  options = Options();
  options.fast_recall = 0.97;
  ExpectRefusal(Train(planted, options).status(), {"fast_recall is 0.97", "0.95"});
  options = Options();
  options.most_bytes = 0;
  ExpectRefusal(Train(planted, options).status(), {"most_bytes is 0"});
  options = Options();
  options.most_flops = -1;
  ExpectRefusal(Train(planted, options).status(), {"most_flops is -1"});
}

TEST_F(TrainPredictorsTest, RefuseSamplesThatDoNotFit) {
  const auto team = *ThreadTeam::Create(1);
  const CpuContext context{.team = team.get(), .kernels = &BestKernels()};
  Planted planted = Small();
  ModelIdentity model = Model(planted);
  model.d_ff = 512;
  ExpectRefusal(TrainPredictors(context, planted.samples, Layers(planted), model, Options(), kGoOn).status(),
                {"128", "512"});
  std::vector<LayerTraining> layers = Layers(planted);
  layers[0].gate.rows = 127;
  ExpectRefusal(TrainPredictors(context, planted.samples, layers, Model(planted), Options(), kGoOn).status(),
                {"layer 0", "127 x 32"});
  planted = Small({.d_model = kDModel, .training_tokens = 600, .held_out_tokens = 1});
  ExpectRefusal(Train(planted, Options()).status(), {"1 held-out tokens", "at least 2"});
  planted = Plant({{.rank = 4, .frequencies = FlatFrequencies(kDFf, 0.1)}},
                  {.d_model = 48, .training_tokens = 60, .held_out_tokens = 30});
  ExpectRefusal(Train(planted, Options()).status(), {"d_model is 48", "multiple of 32"});
  TrainingOptions options = Options();
  options.choice = PredictorChoice::kAuto;
  EXPECT_EQ(Train(planted, options)->layers[0].kind, PredictorKind::kSign);
}

TEST(PredictorChoice, HasNames) {
  for (const PredictorChoice choice : {PredictorChoice::kMlp, PredictorChoice::kSign, PredictorChoice::kAuto})
    EXPECT_EQ(*ParsePredictorChoice(NameOf(choice)), choice);
  ExpectRefusal(ParsePredictorChoice("mpl").status(), {"'mpl'", "mlp, sign, auto"});
}

}  // namespace
}  // namespace thermocline
