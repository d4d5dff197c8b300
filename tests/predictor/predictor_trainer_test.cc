// Training on planted rules.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/predictor_trainer.h"

#include <gtest/gtest.h>

#include "predictor/calibration.h"
#include "tests/predictor/planted_samples.h"

namespace thermocline {
namespace {

using testing::FlatFrequencies;
using testing::Plant;
using testing::Planted;
using testing::SkewedFrequencies;

constexpr int64_t kDFf = 200;

class PredictorTrainerTest : public ::testing::Test {
 protected:
  CpuContext Context() const { return {.team = team_.get(), .kernels = &BestKernels()}; }
  absl::StatusOr<Mlp> Fit(const ActivationSamples& samples, const FitOptions& options) const {
    return FitMlp(Context(), kDFf, samples.Layer(SamplePart::kTraining, 0),
                  samples.Layer(SamplePart::kHeldOut, 0), options, [](double) { return true; });
  }
  // At recall 0.95 on held-out tokens.
  PredictorFigures Figures(const Planted& planted, const Mlp& mlp) const {
    const auto scores =
        ScoreSamples(Context(), Quantize(mlp), planted.gate(0),
                     planted.samples.Layer(SamplePart::kHeldOut, 0), 100'000, [] { return true; });
    return scores->FiguresAt(scores->ThresholdFor(0.95));
  }
  const std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
};

TEST_F(PredictorTrainerTest, LearnsAPlantedRule) {
  const Planted planted = Plant({{.rank = 6, .frequencies = FlatFrequencies(kDFf, 0.1)}});
  const auto mlp = Fit(planted.samples, {.hidden = 32, .token_passes = 60'000, .positive_weight = 2});
  ASSERT_TRUE(mlp.ok());
  const PredictorFigures figures = Figures(planted, *mlp);
  EXPECT_GE(figures.recall, 0.95);
  EXPECT_GE(figures.precision, 0.3);  // guessing would give 0.1
}

TEST_F(PredictorTrainerTest, KnowsSkewedNeuronsWithoutTraining) {
  const Planted planted = Plant({{.rank = 6, .frequencies = SkewedFrequencies(kDFf, 0.1)}});
  const auto mlp = Fit(planted.samples, {.hidden = 32, .token_passes = 1});
  ASSERT_TRUE(mlp.ok());
  EXPECT_GE(Figures(planted, *mlp).precision, 0.8);
}

TEST_F(PredictorTrainerTest, GivesTheSameBitsOnAnyNumberOfThreads) {
  const Planted planted = Plant({{.rank = 6, .frequencies = FlatFrequencies(kDFf, 0.1)}},
                                {.training_tokens = 700, .held_out_tokens = 300});
  const FitOptions options{.hidden = 64, .token_passes = 5'000, .positive_weight = 2};
  const Mlp two_threads = *Fit(planted.samples, options);
  for (const int threads : {1, 5}) {
    const auto team = *ThreadTeam::Create(threads);
    const auto other =
        FitMlp({.team = team.get(), .kernels = &BestKernels()}, kDFf,
               planted.samples.Layer(SamplePart::kTraining, 0),
               planted.samples.Layer(SamplePart::kHeldOut, 0), options, [](double) { return true; });
    EXPECT_TRUE(std::ranges::equal(other->parameters(), two_threads.parameters())) << threads;
  }
  FitOptions reseeded = options;
  reseeded.seed = 2;
  EXPECT_FALSE(std::ranges::equal(Fit(planted.samples, reseeded)->parameters(), two_threads.parameters()));
}

// On labels that have nothing to do with the inputs every step past the first ones only learns the training
// tokens by heart.
TEST_F(PredictorTrainerTest, StopsWhenHeldOutTokensGetWorse) {
  ActivationSamples samples = *ActivationSamples::Create(
      {.n_layers = 1, .d_model = 32, .d_ff = kDFf, .training_tokens = 300, .held_out_tokens = 300});
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal(0, 1);
  for (const SamplePart part : {SamplePart::kTraining, SamplePart::kHeldOut}) {
    auto x = *Matrix<float>::Create(300, 32);
    auto gate = *Matrix<float>::Create(300, kDFf);
    for (int64_t t = 0; t < 300; ++t) {
      for (float& value : x.row(t)) value = normal(random);
      for (float& value : gate.row(t)) value = normal(random);
    }
    ASSERT_TRUE(samples.Append(part, 0, x.view(), gate.view(), Activation::kRelu, 0).ok());
  }
  double furthest = 0;
  const auto mlp =
      FitMlp(Context(), kDFf, samples.Layer(SamplePart::kTraining, 0), samples.Layer(SamplePart::kHeldOut, 0),
             {.hidden = 64, .token_passes = 100'000}, [&](double share_done) {
               furthest = share_done;
               return true;
             });
  ASSERT_TRUE(mlp.ok());
  EXPECT_LT(furthest, 0.6);
}

TEST_F(PredictorTrainerTest, CanBeCancelled) {
  const Planted planted = Plant({{.rank = 2, .frequencies = FlatFrequencies(kDFf, 0.1)}},
                                {.training_tokens = 300, .held_out_tokens = 30});
  int asked = 0;
  const auto mlp = FitMlp(Context(), kDFf, planted.samples.Layer(SamplePart::kTraining, 0),
                          planted.samples.Layer(SamplePart::kHeldOut, 0),
                          {.hidden = 32, .token_passes = 10'000}, [&](double) { return ++asked < 4; });
  EXPECT_TRUE(absl::IsCancelled(mlp.status()));
  EXPECT_EQ(asked, 4);
}

}  // namespace
}  // namespace thermocline
