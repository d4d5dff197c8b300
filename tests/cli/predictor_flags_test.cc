// Flags of predictor training: what they mean, and what is refused by the flag's name.
// SPDX-License-Identifier: Apache-2.0
#include "cli/predictor_flags.h"

#include <gtest/gtest.h>

#include <limits>

#include "scheduler/request.h"

namespace thermocline {
namespace {

TEST(CheckPredictorFlags, RefusalsNameTheFlag) {
  EXPECT_TRUE(CheckPredictorFlags({}).ok());
  for (const char* kind : {"mlp", "sign", "auto", "none"})
    EXPECT_TRUE(CheckPredictorFlags({.kind = kind}).ok());
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  const std::pair<const char*, PredictorFlags> cases[] = {
      {"--predictor", {.kind = "MLP"}},          {"--predictor-recall", {.recall = 0}},
      {"--predictor-recall", {.recall = 1}},     {"--predictor-recall", {.recall = kNan}},
      {"--predictor-budget", {.budget = 0}},     {"--predictor-budget", {.budget = 1.01}},
      {"--predictor-budget", {.budget = kNan}},  {"--predictor-tokens", {.tokens = 15}},
      {"--predictor-memory", {.memory = "lots"}}};
  for (const auto& [flag, flags] : cases) EXPECT_EQ(FieldOf(CheckPredictorFlags(flags)), flag);
}

TEST(ChoiceOf, NothingGivenMeansAutoWhereNeuronsAreSilent) {
  EXPECT_EQ(ChoiceOf({}, true), PredictorChoice::kAuto);
  EXPECT_EQ(ChoiceOf({}, false), std::nullopt);
  EXPECT_EQ(ChoiceOf({.kind = "sign"}, false), PredictorChoice::kSign);
  EXPECT_EQ(ChoiceOf({.kind = "none"}, true), std::nullopt);
}

TEST(TrainingOptionsOf, FastMayMissTwiceAsMuch) {
  const TrainingOptions options =
      TrainingOptionsOf({.recall = 0.95, .budget = 0.1, .seed = 7}, PredictorChoice::kMlp, 1000);
  EXPECT_EQ(options.target_recall, 0.95);
  EXPECT_EQ(options.fast_recall, 0.9);
  EXPECT_EQ(options.most_bytes, 100);
  EXPECT_EQ(options.seed, 7u);
  EXPECT_EQ(options.choice, PredictorChoice::kMlp);
  for (const double recall : {0.01, 0.3, 0.5, 0.999}) {
    const TrainingOptions other = TrainingOptionsOf({.recall = recall}, PredictorChoice::kAuto, 1000);
    EXPECT_TRUE(other.Validate().ok()) << recall << other.Validate();
  }
}

}  // namespace
}  // namespace thermocline
