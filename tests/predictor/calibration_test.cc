// Halves, quantised scores, and thresholds from histograms.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/calibration.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/predictor/planted_samples.h"

namespace thermocline {
namespace {

using testing::FlatFrequencies;
using testing::Plant;
using testing::Planted;

// Scores of one token whose neurons are active where said.
ScoreHistogram HistogramOf(const std::vector<float>& of_active, const std::vector<float>& of_silent) {
  const size_t n = of_active.size() + of_silent.size();
  auto scores = *Matrix<float>::Create(1, static_cast<int64_t>(n));
  auto active = *Matrix<uint64_t>::Create(1, BitWords(static_cast<int64_t>(n)));
  for (size_t i = 0; i < n; ++i) {
    const bool is_active = i < of_active.size();
    scores.row(0)[i] = is_active ? of_active[i] : of_silent[i - of_active.size()];
    active.row(0)[i / 64] |= static_cast<uint64_t>(is_active) << (i % 64);
  }
  ScoreHistogram histogram;
  histogram.Add(scores.view(), active.view());
  return histogram;
}

// 1, 2, ..., count, moved by `shift`. Whole numbers of that size are edges of bins.
std::vector<float> Ascending(int count, float shift = 0) {
  std::vector<float> scores;
  for (int i = 1; i <= count; ++i) scores.push_back(static_cast<float>(i) + shift);
  return scores;
}

TEST(Calibration, LeavesAReserveOfMissesToFreshText) {
  const ScoreHistogram same = HistogramOf(Ascending(200), Ascending(100));
  LayerPredictor predictor{.kind = PredictorKind::kMlp};
  Calibrate(same, same, 0.95, 0.90, 64, predictor);
  // 0.955 of 200 are 191, of which 10 is the lowest; 0.91 are 182, and 19 the lowest.
  EXPECT_EQ(predictor.balanced_threshold, 10);
  EXPECT_EQ(predictor.fast_threshold, 19);
  EXPECT_DOUBLE_EQ(predictor.balanced.recall, 191.0 / 200);
  EXPECT_DOUBLE_EQ(predictor.balanced.precision, 191.0 / (191 + 91));
  EXPECT_DOUBLE_EQ(predictor.fast.recall, 182.0 / 200);
}

TEST(Calibration, ReportsFiguresOfTheOtherHalf) {
  const ScoreHistogram calibration = HistogramOf(Ascending(200), {});
  const ScoreHistogram judgement = HistogramOf(Ascending(200, 2), Ascending(50));
  LayerPredictor predictor{.kind = PredictorKind::kMlp};
  Calibrate(calibration, judgement, 0.95, 0.90, 64, predictor);
  EXPECT_EQ(predictor.balanced_threshold, 10);  // 8 + 2 is the eighth of the other half
  EXPECT_DOUBLE_EQ(predictor.balanced.recall, 193.0 / 200);
  EXPECT_DOUBLE_EQ(predictor.balanced.marked, (193.0 + 41) / 250);
}

TEST(Calibration, LowersAThresholdThatMissesTheTargetOnTheOtherHalf) {
  const ScoreHistogram calibration = HistogramOf(Ascending(200), {});
  const ScoreHistogram judgement = HistogramOf(Ascending(200, -20), {});
  LayerPredictor predictor{.kind = PredictorKind::kMlp};
  Calibrate(calibration, judgement, 0.95, 0.90, 64, predictor);
  EXPECT_GE(predictor.balanced.recall, 0.95);
  EXPECT_LT(predictor.balanced.recall, 0.955);
  EXPECT_GE(predictor.fast.recall, 0.90);
  EXPECT_GE(predictor.fast_threshold, predictor.balanced_threshold);
}

TEST(Calibration, KeepsThresholdsOfSignsWithinTheirCounts) {
  LayerPredictor predictor{.kind = PredictorKind::kSign};
  const ScoreHistogram lowest = HistogramOf({-65, 65}, {});
  Calibrate(lowest, lowest, 0.95, 0.90, 65, predictor);
  EXPECT_EQ(predictor.balanced_threshold, -65);
  EXPECT_EQ(predictor.balanced.recall, 1);
  const ScoreHistogram silent = HistogramOf({}, {65});
  Calibrate(silent, silent, 0.95, 0.90, 65, predictor);
  EXPECT_EQ(predictor.balanced_threshold, 65);
}

TEST(Calibration, HalvesAreDifferentTokensAndAllOfThem) {
  const Planted planted = Plant({{.rank = 4, .frequencies = FlatFrequencies(70, 0.3)}},
                                {.d_model = 32, .training_tokens = 2, .held_out_tokens = 7});
  const LayerSamples held_out = planted.samples.Layer(SamplePart::kHeldOut, 0);
  const HeldOutHalves halves = Halve(held_out);
  EXPECT_EQ(halves.calibration.tokens(), 3);
  EXPECT_EQ(halves.judgement.tokens(), 4);
  EXPECT_EQ(halves.calibration.x.data, held_out.x.data);
  EXPECT_EQ(halves.judgement.x.data, held_out.x.row_data(3));
  EXPECT_EQ(halves.judgement.active.data, held_out.active.row_data(3));
}

// Against counting column by column.
TEST(Calibration, SignsAreScoredByAgreement) {
  const Planted planted = Plant({{.rank = 32, .frequencies = FlatFrequencies(70, 0.3)}},
                                {.d_model = 33, .training_tokens = 2, .held_out_tokens = 300});
  const auto team = *ThreadTeam::Create(2);
  const LayerSamples samples = planted.samples.Layer(SamplePart::kHeldOut, 0);
  const auto histogram =
      *ScoreSamples({.team = team.get(), .kernels = &BestKernels()}, {.kind = PredictorKind::kSign},
                    planted.gate(0), samples, 1000, [] { return true; });
  for (const float threshold : {-9.0f, 1.0f, 7.0f}) {
    int64_t marked = 0, hits = 0;
    for (int64_t t = 0; t < samples.tokens(); ++t) {
      for (int64_t i = 0; i < 70; ++i) {
        int score = 0;
        for (int64_t c = 0; c < 33; ++c) {
          const bool x_negative = samples.x.row_data(t)[c] >> 15 != 0;
          score += (planted.gates[0].view().row_data(i)[c] < 0) == x_negative ? 1 : -1;
        }
        const bool active = (samples.active.row_data(t)[i / 64] >> (i % 64) & 1u) != 0;
        marked += static_cast<float>(score) >= threshold;
        hits += active && static_cast<float>(score) >= threshold;
      }
    }
    const PredictorFigures figures = histogram.FiguresAt(threshold);
    EXPECT_DOUBLE_EQ(figures.marked, static_cast<double>(marked) / (300 * 70)) << threshold;
    EXPECT_DOUBLE_EQ(figures.precision, static_cast<double>(hits) / static_cast<double>(marked)) << threshold;
  }
}

}  // namespace
}  // namespace thermocline
