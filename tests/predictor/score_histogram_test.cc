// Thresholds and figures against sorting.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/score_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace thermocline {
namespace {

constexpr int64_t kTokens = 40;
constexpr int64_t kDFf = 100;

struct Scored {
  Scored() {
    std::mt19937_64 random(3);
    std::normal_distribution<float> normal(0, 2);
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t i = 0; i < kDFf; ++i) {
        const float score = scores.view().row_data(t)[i] = normal(random);
        if (score + normal(random) < 1.5f) continue;
        active.view().row_data(t)[i / 64] |= uint64_t{1} << (i % 64);
        of_active.push_back(score);
      }
    }
    histogram.Add(scores.view(), active.view());
  }

  Matrix<float> scores = *Matrix<float>::Create(kTokens, kDFf);
  Matrix<uint64_t> active = *Matrix<uint64_t>::Create(kTokens, 2);
  std::vector<float> of_active;
  ScoreHistogram histogram;
};

TEST(ScoreHistogram, ThresholdIsTheLargestThatKeepsTheRecall) {
  Scored scored;
  std::ranges::sort(scored.of_active, std::greater<>());
  for (const double recall : {0.01, 0.5, 0.9, 0.95, 1.0}) {
    const auto wanted = static_cast<size_t>(std::ceil(recall * static_cast<double>(scored.of_active.size())));
    const float exact = scored.of_active[wanted - 1];
    const float threshold = scored.histogram.ThresholdFor(recall);
    EXPECT_LE(threshold, exact) << recall;
    EXPECT_NEAR(threshold, exact, std::abs(exact) / 1024) << recall;  // at most a bin below
  }
}

TEST(ScoreHistogram, FiguresAreThoseOfComparing) {
  const Scored scored;
  for (const double recall : {0.5, 0.95}) {
    const float threshold = scored.histogram.ThresholdFor(recall);
    int hits = 0, marked = 0;
    for (int64_t t = 0; t < kTokens; ++t) {
      for (int64_t i = 0; i < kDFf; ++i) {
        const bool is_marked = scored.scores.view().row_data(t)[i] >= threshold;
        marked += is_marked;
        hits += is_marked && (scored.active.view().row_data(t)[i / 64] >> (i % 64) & 1u) != 0;
      }
    }
    const PredictorFigures figures = scored.histogram.FiguresAt(threshold);
    EXPECT_DOUBLE_EQ(figures.recall, hits / static_cast<double>(scored.of_active.size()));
    EXPECT_DOUBLE_EQ(figures.precision, hits / static_cast<double>(marked));
    EXPECT_DOUBLE_EQ(figures.marked, marked / static_cast<double>(kTokens * kDFf));
  }
}

TEST(ScoreHistogram, ZerosOfEitherSignAreOne) {
  auto scores = *Matrix<float>::Create(1, 2);
  auto active = *Matrix<uint64_t>::Create(1, 1);
  scores.row(0)[0] = -0.0f;
  scores.row(0)[1] = 0.0f;
  active.row(0)[0] = 0b11;
  ScoreHistogram histogram;
  histogram.Add(scores.view(), active.view());
  EXPECT_EQ(histogram.ThresholdFor(0.5), 0.0f);
  EXPECT_EQ(histogram.FiguresAt(0).recall, 1);
}

TEST(ScoreHistogram, MarksNothingWhereNothingWasActive) {
  auto scores = *Matrix<float>::Create(1, 3);
  scores.row(0)[0] = -7.5f;
  scores.row(0)[1] = 3;
  const auto active = *Matrix<uint64_t>::Create(1, 1);
  ScoreHistogram histogram;
  histogram.Add(scores.view(), active.view());
  const float threshold = histogram.ThresholdFor(0.95);
  EXPECT_GT(threshold, 3);
  EXPECT_TRUE(std::isfinite(threshold));
  const PredictorFigures figures = histogram.FiguresAt(threshold);
  EXPECT_EQ(figures.recall, 1);
  EXPECT_EQ(figures.precision, 1);
  EXPECT_EQ(figures.marked, 0);
}

}  // namespace
}  // namespace thermocline
