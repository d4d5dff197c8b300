// The rule by which plans are made by neuron or by layer.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_choice.h"

#include <gtest/gtest.h>

#include "placement_testing.h"

namespace thermocline {
namespace {

// Three layers of 100 neurons of 1 MB on a CPU of 10 GB/s, a fast accelerator with room for two layers.
PlacementProblem ThreeLayers(double hot_frequency, double cold_frequency) {
  PlacementProblem problem = SmallProblem(1, 3, 100, 200);
  problem.sync_micros = 20;
  for (PlacementLayer& layer : problem.layers) {
    for (size_t i = 0; i < layer.frequency.size(); ++i)
      layer.frequency[i] = i % 5 == 0 ? hot_frequency : cold_frequency;
  }
  return problem;
}

TEST(ChoosePlacement, SkewedNeuronsAreChosenOneByOne) {
  const PlacementProblem problem = ThreeLayers(0.9, 0.02);
  const auto plan = ChoosePlacement(problem);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->prediction.by_layer, "");
  EXPECT_TRUE(plan->splits_layers());
  EXPECT_EQ(plan->prediction.tokens_per_second, SolvePlacement(problem)->prediction.tokens_per_second);
}

// A third of every layer on the CPU costs what one of three layers does, and three joins.
TEST(ChoosePlacement, AlikeNeuronsArePlacedByLayer) {
  const PlacementProblem problem = ThreeLayers(0.1, 0.1);
  const auto plan = ChoosePlacement(problem);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->splits_layers());
  EXPECT_EQ(plan->whole_layers(), 2);
  // 10 MB a layer: 1 ms on the CPU, 0.02 ms on the accelerator.
  EXPECT_NEAR(plan->prediction.tokens_per_second, 1 / 1.04e-3, 1e-6);
  EXPECT_EQ(plan->prediction.binding, "memory");
  EXPECT_EQ(plan->objective, PlacementObjective::kLatency);
  for (const char* part : {"planned by layer: ", "1.05 times the 961.5 ", "80 % of the neurons make 80 %",
                           "2 of 3 layers are whole on 'host'"}) {
    EXPECT_NE(plan->prediction.by_layer.find(part), std::string::npos) << plan->prediction.by_layer;
  }
  EXPECT_GE(plan->prediction.gap, 0);
  EXPECT_LT(plan->prediction.gap, kLeastGainOfNeurons - 1);
  ASSERT_EQ(plan->alternatives.size(), 3u);
  EXPECT_EQ(plan->alternatives[0].name, "hot and cold neurons");
  EXPECT_LT(plan->alternatives[0].prediction.tokens_per_second,
            kLeastGainOfNeurons * plan->prediction.tokens_per_second);
}

// Frequencies that seem skewed mean nothing where all is read.
TEST(ChoosePlacement, NeuronsThatAreAllReadArePlacedByLayer) {
  PlacementProblem problem = ThreeLayers(0.9, 0.02);
  problem.reads_all_because = "activation silu is zero on no range of inputs";
  const auto plan = ChoosePlacement(problem);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_FALSE(plan->splits_layers());
  EXPECT_EQ(plan->whole_layers(), 2);
  // 100 MB a layer, every neuron.
  EXPECT_NEAR(plan->prediction.tokens_per_second, 1 / 10.4e-3, 1e-6);
  for (const char* part : {"activation silu is zero on no range", "every token reads every neuron",
                           "2 of 3 layers are whole on 'host', 96.2 tokens/s"}) {
    EXPECT_NE(plan->prediction.by_layer.find(part), std::string::npos) << plan->prediction.by_layer;
  }
  problem.accelerators.clear();
  const auto alone = ChoosePlacement(problem);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_NE(alone->prediction.by_layer.find("everything is on the CPU"), std::string::npos);
}

TEST(ChoosePlacement, NothingIsLeftToChooseWhereAllFits) {
  PlacementProblem problem = ThreeLayers(0.1, 0.1);
  problem.accelerators[0].budget_bytes = 300'000'000;
  const auto plan = ChoosePlacement(problem);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->prediction.by_layer, "");
  EXPECT_EQ(plan->hot_neurons(), 300);
}

TEST(ChoosePlacement, OtherObjectivesAreSolvedAsAskedFor) {
  PlacementProblem problem = ThreeLayers(0.1, 0.1);
  problem.objective = PlacementObjective::kImpact;
  EXPECT_EQ(ChoosePlacement(problem)->prediction.by_layer, "");
  problem.objective = PlacementObjective::kLayers;
  const auto layers = ChoosePlacement(problem);
  ASSERT_TRUE(layers.ok()) << layers.status();
  EXPECT_NE(layers->prediction.by_layer.find("were asked for"), std::string::npos);
  problem.reads_all_because = "architecture bitnet norms its whole hidden layer";
  problem.objective = PlacementObjective::kImpact;
  EXPECT_FALSE(ChoosePlacement(problem)->splits_layers());
}

TEST(ChoosePlacement, RefusesWhatTheSolverRefuses) {
  PlacementProblem problem = ThreeLayers(0.1, 0.1);
  problem.accelerators[0].budget_bytes = 1;
  EXPECT_EQ(ChoosePlacement(problem).status().code(), absl::StatusCode::kResourceExhausted);
  problem.reads_all_because = "activation silu is zero on no range of inputs";
  EXPECT_EQ(ChoosePlacement(problem).status().code(), absl::StatusCode::kResourceExhausted);
}

}  // namespace
}  // namespace thermocline
