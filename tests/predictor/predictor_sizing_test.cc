// The size search over made-up costs.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/predictor_sizing.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/support/refusal.h"

namespace thermocline {
namespace {

constexpr int64_t kDModel = 256;
constexpr int64_t kDFf = 1024;
constexpr int64_t kNoLimit = int64_t{1} << 40;

SizingLayer Layer(double sparsity, double gini) {
  return {.d_model = kDModel,
          .d_ff = kDFf,
          .sparsity = sparsity,
          .gini = gini,
          .bytes = {.gate = 512, .up_down = 1024}};
}

// Costs that fall to `best` and rise behind it; counts what is tried.
struct Costs {
  std::vector<double> best;  // by layer
  mutable std::map<std::pair<size_t, int64_t>, int> tried;

  absl::StatusOr<double> operator()(size_t layer, int64_t hidden) const {
    tried[{layer, hidden}] += 1;
    return 1e5 * (1 + std::abs(std::log(static_cast<double>(hidden) / best[layer])));
  }
};

std::vector<SizedLayer> Search(const std::vector<SizingLayer>& layers, Costs& costs, int64_t most_bytes) {
  auto sized = SizePredictors(layers, most_bytes, costs);
  EXPECT_TRUE(sized.ok()) << sized.status();
  return *std::move(sized);
}

TEST(PredictorSizing, CostIsPredictorAndGatesAndWhatFires) {
  const PredictorFigures figures{.recall = 0.95, .precision = 0.5, .marked = 0.25};
  EXPECT_DOUBLE_EQ(PredictedCost(figures, 1000, 400, {.gate = 10, .up_down = 30}), 1000 + 100 * 10 + 50 * 30);
}

TEST(PredictorSizing, BytesAreThoseOfThePredictor) {
  // Q8_0: 34 bytes for 32 weights; F32 biases.
  EXPECT_EQ(PredictorBytes(64, kDModel, kDFf), 64 * (256 + 1024) / 32 * 34 + 4 * (64 + 1024));
  EXPECT_EQ(PredictorBytes(0, kDModel, kDFf), 1024 * 256 / 8);
}

TEST(PredictorSizing, BaselineFallsWithSparsityAndWithSkewness) {
  int64_t previous = int64_t{1} << 30;
  for (const double sparsity : {0.5, 0.7, 0.8, 0.9, 0.97}) {
    const int64_t baseline = BaselineHidden(Layer(sparsity, 0.3));
    EXPECT_LE(baseline, previous) << sparsity;
    EXPECT_EQ(baseline % 32, 0);
    EXPECT_GE(baseline, 32);
    previous = baseline;
  }
  EXPECT_LT(BaselineHidden(Layer(0.97, 0.3)), BaselineHidden(Layer(0.5, 0.3)));
  EXPECT_LT(BaselineHidden(Layer(0.7, 0.9)), BaselineHidden(Layer(0.7, 0.1)));
}

TEST(PredictorSizing, ClimbsToTheLeastCostFromEitherSide) {
  for (const double gini : {0.1, 0.9}) {
    for (const double best : {32.0, 64.0, 192.0, 256.0}) {
      Costs costs{.best = {best}, .tried = {}};
      const std::vector<SizedLayer> sized = Search({Layer(0.7, gini)}, costs, kNoLimit);
      EXPECT_EQ(sized[0].kind, PredictorKind::kMlp);
      EXPECT_EQ(sized[0].hidden, static_cast<int64_t>(best)) << gini;
      EXPECT_EQ(sized[0].bytes, PredictorBytes(sized[0].hidden, kDModel, kDFf));
      for (const auto& [size, times] : costs.tried) EXPECT_EQ(times, 1) << size.second;
    }
  }
}

TEST(PredictorSizing, StopsWhereThePredictorWouldReadMoreThanTheGates) {
  Costs costs{.best = {1e6}, .tried = {}};  // the larger the better
  const std::vector<SizedLayer> sized = Search({Layer(0.7, 0.3)}, costs, kNoLimit);
  EXPECT_EQ(sized[0].hidden, 256);  // 384 would take 528 KB, the gates 524
}

TEST(PredictorSizing, TakesTheSignWhereItIsCheaperByFar) {
  Costs costs{.best = {64, 64}, .tried = {}};
  std::vector<SizingLayer> layers = {Layer(0.9, 0.3), Layer(0.9, 0.3)};
  layers[0].sign_cost = 0.5e5;
  layers[1].sign_cost = 0.9e5;  // training decides
  const std::vector<SizedLayer> sized = Search(layers, costs, kNoLimit);
  EXPECT_EQ(sized[0].kind, PredictorKind::kSign);
  EXPECT_EQ(sized[0].bytes, 1024 * 256 / 8);
  EXPECT_EQ(sized[1].kind, PredictorKind::kMlp);
}

TEST(PredictorSizing, TriesNothingWhereOnlySignsAreAllowed) {
  Costs costs{.best = {64}, .tried = {}};
  SizingLayer layer = Layer(0.9, 0.3);
  layer.mlp = false;
  layer.sign_cost = 9e9;
  EXPECT_EQ(Search({layer}, costs, kNoLimit)[0].kind, PredictorKind::kSign);
  EXPECT_TRUE(costs.tried.empty());
}

TEST(PredictorSizing, KeepsTheLimitAndShrinksWhereItCostsLeast) {
  // The same sizes, but a byte less costs the second layer ten times as much.
  const auto cost = [](size_t layer, int64_t hidden) -> absl::StatusOr<double> {
    return (layer == 0 ? 1.0 : 10.0) * std::abs(static_cast<double>(hidden) - 192);
  };
  const std::vector<SizingLayer> layers = {Layer(0.7, 0.3), Layer(0.7, 0.3)};
  const int64_t at_best = PredictorBytes(192, kDModel, kDFf);
  for (const int64_t most_bytes : {2 * at_best, 2 * at_best - 1, at_best * 3 / 2, at_best}) {
    const std::vector<SizedLayer> sized = *SizePredictors(layers, most_bytes, cost);
    EXPECT_LE(sized[0].bytes + sized[1].bytes, most_bytes);
    EXPECT_GE(sized[1].hidden, sized[0].hidden);
  }
  const std::vector<SizedLayer> sized = *SizePredictors(layers, 2 * at_best - 1, cost);
  EXPECT_EQ(sized[0].hidden, 128);
  EXPECT_EQ(sized[1].hidden, 192);
}

TEST(PredictorSizing, FallsBackToTheSignToKeepTheLimit) {
  Costs costs{.best = {64}, .tried = {}};
  SizingLayer layer = Layer(0.9, 0.3);
  layer.sign_cost = 9e9;
  const std::vector<SizedLayer> sized = Search({layer}, costs, 1024 * 256 / 8);
  EXPECT_EQ(sized[0].kind, PredictorKind::kSign);
}

TEST(PredictorSizing, RefusesALimitThatNothingFits) {
  Costs costs{.best = {64, 64}, .tried = {}};
  const std::vector<SizingLayer> layers = {Layer(0.9, 0.3), Layer(0.9, 0.3)};
  const auto sized = SizePredictors(layers, 1000, costs);
  EXPECT_EQ(sized.status().code(), absl::StatusCode::kFailedPrecondition);
  ExpectRefusal(sized.status(), {std::to_string(2 * PredictorBytes(32, kDModel, kDFf)), "1000"});
}

TEST(PredictorSizing, PassesOnWhatStopsATraining) {
  const auto stopped = [](size_t, int64_t) -> absl::StatusOr<double> { return Cancelled("stop"); };
  const std::vector<SizingLayer> layers = {Layer(0.9, 0.3)};
  EXPECT_TRUE(absl::IsCancelled(SizePredictors(layers, kNoLimit, stopped).status()));
}

}  // namespace
}  // namespace thermocline
