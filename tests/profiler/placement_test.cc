// What each constraint does to a plan, what is said of it, and a model of the size of OPT-30B.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "tests/profiler/placement_testing.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using testing::ElementsAre;

std::vector<int64_t> HotOfLayers(const Plan& plan) {
  std::vector<int64_t> hot;
  for (const PlanLayer& layer : plan.layers) hot.push_back(HotNeurons(layer));
  return hot;
}

// Layers of given frequencies in SmallProblem's units: a neuron of frequency 1 takes the CPU 100 us.
PlacementProblem LayersOf(const std::vector<std::vector<double>>& frequencies, int64_t budget_neurons) {
  PlacementProblem problem = SmallProblem(1, static_cast<int>(frequencies.size()), 1, budget_neurons);
  for (size_t l = 0; l < frequencies.size(); ++l) {
    problem.layers[l].frequency = frequencies[l];
    problem.layers[l].held_out_frequency = frequencies[l];
  }
  return problem;
}

TEST(SolvePlacement, MemoryIsTheMostThatGoesToTheAccelerator) {
  for (const int64_t budget : {1, 5, 13, 20, 40}) {
    PlacementProblem problem = SmallProblem(3, 2, 20, budget);
    problem.sync_micros = 5;  // else the CPU would keep its share even where all fits
    const Plan plan = *SolvePlacement(problem);
    EXPECT_EQ(plan.hot_neurons(), budget);
    EXPECT_EQ(plan.devices[1].used_bytes(), budget * 1'000'000);
    EXPECT_EQ(plan.prediction.binding, budget == 40 ? "nothing" : "memory");
  }
}

TEST(SolvePlacement, TheMostFrequentNeuronsAreHot) {
  const Plan plan = *SolvePlacement(LayersOf({{0.1, 0.9, 0.2, 0.8}, {0.3, 0.05, 0.7, 0.0}}, 3));
  const auto devices = DeviceOfNeurons(plan, 4);
  EXPECT_THAT(devices[0], ElementsAre(0, 1, 0, 1));
  EXPECT_THAT(devices[1], ElementsAre(0, 0, 1, 0));
  EXPECT_DOUBLE_EQ(plan.prediction.coverage, 2.4 / 3.05);
  EXPECT_DOUBLE_EQ(plan.prediction.held_out_coverage, 2.4 / 3.05);
}

// Layer 1 makes 0.25 activations a token, 25 us of CPU time: with 10 us of synchronisation a part of it pays,
// with 30 us none does, and the memory goes to layer 0.
TEST(SolvePlacement, FewHotNeuronsDoNotPayForTheSynchronisation) {
  for (const PlacementObjective objective : {PlacementObjective::kLatency, PlacementObjective::kImpact}) {
    PlacementProblem problem =
        LayersOf({{0.9, 0.8, 0.7, 0.6, 0.1, 0.1, 0.1, 0.1}, {0.15, 0.1, 0, 0, 0, 0, 0, 0}}, 6);
    problem.objective = objective;
    problem.sync_micros = 0.1;
    EXPECT_THAT(HotOfLayers(*SolvePlacement(problem)), ElementsAre(testing::Ge(4), testing::Ge(1)));
    problem.sync_micros = 30;
    EXPECT_THAT(HotOfLayers(*SolvePlacement(problem)), ElementsAre(5, 0));  // N - D_0 is 5
  }
}

// Behind its six hot neurons layer 0 keeps 20 us of work, less than a synchronisation of 40 us: it moves
// whole and layer 1 makes room, which nobody would pay for without synchronisation.
TEST(SolvePlacement, NearlyAllHotLayersMoveWhole) {
  for (const PlacementObjective objective : {PlacementObjective::kLatency, PlacementObjective::kImpact}) {
    PlacementProblem problem = LayersOf({{1, 1, 1, 1, 1, 1, 0.1, 0.1}, std::vector<double>(8, 0.2)}, 11);
    problem.objective = objective;
    EXPECT_THAT(HotOfLayers(*SolvePlacement(problem)), ElementsAre(6, 5));
    problem.sync_micros = 40;
    EXPECT_THAT(HotOfLayers(*SolvePlacement(problem)), ElementsAre(8, 3));
  }
}

// Three layers of 10 neurons of 1 MB, 4 MB of tenants each (3 of attention and cache, 1 of the predictor),
// a head of 2 MB, 5 MB of scratch.
TEST(SolvePlacement, LayersGoWholeFromTheFirst) {
  PlacementProblem problem = SmallProblem(3, 3, 10, 0);
  problem.objective = PlacementObjective::kLayers;
  problem.sync_micros = 1000;  // is nobody's: no layer is split
  for (PlacementLayer& layer : problem.layers) {
    layer.attention_bytes = 2'000'000;
    layer.kv_cache_bytes = layer.predictor_bytes = 1'000'000;
  }
  problem.head_bytes = 2'000'000;
  problem.scratch_bytes = 5'000'000;
  struct Case {
    int64_t budget_mb;
    int64_t whole_layers;
    bool head;
  };
  for (const Case& c : {Case{18, 0, false}, Case{19, 1, false}, Case{33, 2, false}, Case{48, 3, false},
                        Case{49, 3, true}, Case{100, 3, true}}) {
    SCOPED_TRACE(c.budget_mb);
    problem.accelerators[0].budget_bytes = c.budget_mb * 1'000'000;
    const Plan plan = *SolvePlacement(problem);
    EXPECT_EQ(plan.objective, PlacementObjective::kLayers);
    for (int64_t l = 0; l < 3; ++l) {
      const PlanLayer& layer = plan.layers[static_cast<size_t>(l)];
      const int device = l < c.whole_layers ? 1 : 0;
      EXPECT_EQ(HotNeurons(layer), device == 1 ? 10 : 0);
      EXPECT_EQ(layer.attention_device, device);
      EXPECT_EQ(layer.kv_cache_device, device);
      EXPECT_EQ(layer.predictor_device, device);
    }
    EXPECT_EQ(plan.devices[1].head_bytes, c.head ? 2'000'000 : 0);
    EXPECT_EQ(plan.devices[0].head_bytes, c.head ? 0 : 2'000'000);
    EXPECT_EQ(plan.devices[1].used_bytes(),
              5'000'000 + c.whole_layers * 14'000'000 + (c.head ? 2'000'000 : 0));
    EXPECT_EQ(plan.prediction.binding, c.head ? "nothing" : "memory");
    // Every neuron is read: 14 MB a layer at 500 or at 10 GB/s.
    const double seconds = static_cast<double>(c.whole_layers) * 14e6 / 500e9 +
                           static_cast<double>(3 - c.whole_layers) * 14e6 / 10e9 +
                           2e6 / (c.head ? 500e9 : 10e9);
    EXPECT_NEAR(plan.prediction.tokens_per_second, 1 / seconds, 1e-6 / seconds);
  }
}

// Behind the first accelerator's last whole layer comes the second.
TEST(SolvePlacement, LayersFillOneAcceleratorAfterTheOther) {
  PlacementProblem problem = SmallProblem(3, 5, 10, 25);
  problem.objective = PlacementObjective::kLayers;
  problem.accelerators.push_back({"second", DeviceKind::kHost, 10'000'000, 500});
  const Plan plan = *SolvePlacement(problem);
  EXPECT_EQ(plan.devices[1].neuron_bytes, 20'000'000);
  EXPECT_EQ(plan.devices[2].neuron_bytes, 10'000'000);
  EXPECT_THAT(HotOfLayers(plan), ElementsAre(10, 10, 10, 0, 0));
  EXPECT_EQ(plan.layers[2].units.front().device, 2);
}

TEST(SolvePlacement, FillsTheMemoryWhereNeuronsRemain) {
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    for (const int64_t budget : {200, 1000, 3000, 6000}) {
      for (const PlacementObjective objective : {PlacementObjective::kLatency, PlacementObjective::kImpact}) {
        PlacementProblem problem = SmallProblem(seed, 16, 512, budget);
        problem.objective = objective;
        problem.group_neurons = 64;
        problem.sync_micros = 30;
        const Plan plan = *SolvePlacement(problem);
        EXPECT_LE(plan.accelerator_bytes(), plan.accelerator_budget());
        EXPECT_GE(plan.accelerator_bytes(), plan.accelerator_budget() * 95 / 100) << "budget " << budget;
      }
    }
  }
}

// An accelerator as fast as the CPU: each should take half of the work, whatever the memory.
TEST(SolvePlacement, LeavesMemoryWhereTheAcceleratorIsTheBottleneck) {
  PlacementProblem problem = LayersOf({std::vector<double>(100, 0.5)}, 90);
  problem.accelerators[0].gb_per_second = problem.cpu_gb_per_second;
  const Plan plan = *SolvePlacement(problem);
  EXPECT_EQ(plan.hot_neurons(), 50);
  EXPECT_EQ(plan.prediction.binding, "gpu bandwidth");
}

TEST(SolvePlacement, SaysWhenSynchronisationBinds) {
  PlacementProblem problem = LayersOf({{0.9, 0.5, 0.5, 0.2}, {0.8, 0.7, 0.1, 0.1}}, 3);
  problem.sync_micros = 10'000;
  const Plan plan = *SolvePlacement(problem);
  EXPECT_EQ(plan.hot_neurons(), 0);
  EXPECT_EQ(plan.prediction.binding, "synchronisation");
}

// A batch needs a neuron when any of its tokens does: 1 - (1 - f)^8 lifts 0.2 to 0.83 and 0.9 hardly. Small
// neurons of layer 0 are worth more per byte for one token, the four of layer 1 for a batch.
TEST(SolvePlacement, BatchesWeighRareNeuronsMore) {
  PlacementProblem problem = LayersOf({{0.9, 0.9, 0.9, 0.9}, {0.2, 0.2, 0.2, 0.2}}, 4);
  const auto cold_share = [&](int64_t batch) {
    problem.batch_tokens = batch;
    const Plan plan = *SolvePlacement(problem);
    return 1 / plan.prediction.tokens_per_second * static_cast<double>(batch);
  };
  EXPECT_NEAR(cold_share(1), (0.8 * 100 + 3.6 * 2) * 1e-6, 1e-12);
  const double rare = 4 * (1 - std::pow(0.8, 8)), frequent = 4 * (1 - std::pow(0.1, 8));
  EXPECT_NEAR(cold_share(8), (rare * 100 + frequent * 2) * 1e-6, 1e-12);
}

TEST(SolvePlacement, TenantsComeFirst) {
  PlacementProblem problem = SmallProblem(5, 3, 10, 100);
  for (PlacementLayer& layer : problem.layers) {
    layer.attention_bytes = 3'000'000;
    layer.kv_cache_bytes = 2'000'000;
    layer.predictor_bytes = 1'000'000;
  }
  problem.scratch_bytes = 500'000;
  problem.head_bytes = 7'000'000;
  const auto with_budget = [&](int64_t bytes) {
    problem.accelerators[0].budget_bytes = bytes;
    return *SolvePlacement(problem);
  };
  const auto attention = [](const Plan& plan) {
    std::vector<int> devices;
    for (const PlanLayer& layer : plan.layers) {
      EXPECT_EQ(layer.attention_device, layer.kv_cache_device);
      devices.push_back(layer.attention_device);
    }
    return devices;
  };
  Plan plan = with_budget(2'000'000);  // scratch and one predictor; the others do not fit
  EXPECT_EQ(plan.devices[1].scratch_bytes, 500'000);
  EXPECT_EQ(plan.devices[1].predictor_bytes, 1'000'000);
  EXPECT_THAT(attention(plan), ElementsAre(0, 0, 0));
  plan = with_budget(14'500'000);  // two layers and one neuron
  EXPECT_EQ(plan.devices[1].predictor_bytes, 3'000'000);
  EXPECT_THAT(attention(plan), ElementsAre(1, 1, 0));
  EXPECT_EQ(plan.devices[1].head_bytes, 0);
  EXPECT_EQ(plan.devices[0].head_bytes, 7'000'000);
  EXPECT_EQ(plan.hot_neurons(), 1);
  plan = with_budget(27'500'000);  // all of them and two neurons
  EXPECT_THAT(attention(plan), ElementsAre(1, 1, 1));
  EXPECT_EQ(plan.devices[1].head_bytes, 7'000'000);
  EXPECT_EQ(plan.hot_neurons(), 2);
  EXPECT_EQ(plan.prediction.binding, "memory");
}

TEST(PredictTokensPerSecond, AddsTheTenantsToTheLayers) {
  PlacementProblem problem = LayersOf({{0.5, 0.25}, {1, 1}}, 3);
  problem.sync_micros = 7;
  problem.layers[0].attention_bytes = 2'000'000;
  problem.layers[1].kv_cache_bytes = 4'000'000;
  problem.head_bytes = 1'000'000;
  Plan plan;
  plan.devices = {{.name = "cpu", .head_bytes = 1'000'000}, {.name = "host", .attention_bytes = 2'000'000}};
  plan.devices[0].kv_cache_bytes = 4'000'000;
  plan.layers.resize(2);
  plan.layers[0].units = {{.device = 1, .neurons = {0}}, {.device = 0, .neurons = {1}}};
  plan.layers[1].units = {{.device = 0, .neurons = {0, 1}}};
  // CPU: 100 us a megabyte, accelerator: 2.
  const double micros = 5 * 100 + 2 * 2 + std::max(0.5 * 2, 0.25 * 100) + 7 + 2 * 100;
  EXPECT_NEAR(PredictTokensPerSecond(problem, plan), 1e6 / micros, 1e-6);
}

TEST(SolvePlacement, WithoutAcceleratorsAllIsOnTheCpu) {
  PlacementProblem problem = SmallProblem(6, 2, 8, 1);
  problem.accelerators.clear();
  problem.head_bytes = 5;
  const Plan plan = *SolvePlacement(problem);
  EXPECT_EQ(plan.hot_neurons(), 0);
  EXPECT_EQ(plan.devices.size(), 1u);
  EXPECT_EQ(plan.devices[0].neuron_bytes, 16'000'000);
  EXPECT_EQ(plan.prediction.binding, "memory");
  EXPECT_GT(plan.prediction.tokens_per_second, 0);
}

TEST(SolvePlacement, SilentModelsArePlacedToo) {
  const Plan plan = *SolvePlacement(LayersOf({{0, 0, 0}, {0, 0, 0}}, 4));
  EXPECT_EQ(plan.prediction.coverage, 0);
  EXPECT_TRUE(std::isfinite(plan.prediction.gap));
}

// 60 layers of 28672 neurons of 28 KiB, in which between a tenth and a third make 80 % of the activations.
PlacementProblem Model30B(int64_t budget_bytes) {
  std::mt19937 random(30);
  PlacementProblem problem{.model_sha256 = std::string(64, 'a'), .profile_sha256 = std::string(64, 'b')};
  for (int l = 0; l < 60; ++l) {
    PlacementLayer& layer = problem.layers.emplace_back();
    layer.frequency = SkewedFrequencies(random, 28672, 4 + l % 13);
    layer.neuron_bytes = 2 * 2 * 7168;
    layer.attention_bytes = int64_t{4} * 7168 * 7168 * 2;
    layer.kv_cache_bytes = int64_t{2} * 2048 * 7168 * 2;
    layer.predictor_bytes = int64_t{30} << 20;
  }
  problem.head_bytes = int64_t{50272} * 7168 * 2;
  problem.scratch_bytes = int64_t{512} << 20;
  problem.accelerators = {{"cuda:0", DeviceKind::kCuda, budget_bytes, 900}};
  problem.cpu_gb_per_second = 60;
  problem.sync_micros = 30;
  return problem;
}

TEST(SolvePlacement, ModelOf30BillionIsWithinOnePercentOfTheBound) {
  const PlacementProblem problem = Model30B(int64_t{40} << 30);
  const Plan plan = *SolvePlacement(problem);
  EXPECT_LT(plan.prediction.gap, 0.01);
  EXPECT_GE(plan.accelerator_bytes(), plan.accelerator_budget() / 100 * 95);
  EXPECT_LE(plan.accelerator_bytes(), plan.accelerator_budget());
  for (const PlanAlternative& simple : plan.alternatives) {
    EXPECT_GE(plan.prediction.tokens_per_second, simple.prediction.tokens_per_second);
  }
}

// Cut short at once, it still has the simple plans and an honest gap.
TEST(SolvePlacement, TimeLimitLeavesASoundPlan) {
  PlacementProblem problem = SmallProblem(11, 20, 500, 3000);
  problem.sync_micros = 500;
  const double best_cost = PlanCost(problem, *SolvePlacement(problem));
  problem.time_limit_seconds = 1e-9;
  const Plan plan = *SolvePlacement(problem);
  for (const PlanAlternative& simple : plan.alternatives) {
    EXPECT_GE(plan.prediction.tokens_per_second, simple.prediction.tokens_per_second);
  }
  EXPECT_LE(PlanCost(problem, plan), best_cost * (1 + plan.prediction.gap) * (1 + 1e-9));
}

std::string BytesOf(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(SolvePlacement, TheSameProblemGivesTheSameBytes) {
  const TemporaryFolder folder;
  PlacementProblem problem = SmallProblem(9, 12, 400, 2000);
  problem.group_neurons = 16;
  problem.sync_micros = 80;
  for (const PlacementObjective objective : {PlacementObjective::kLatency, PlacementObjective::kImpact}) {
    problem.objective = objective;
    const std::string first = folder.path() + "/first.pb", second = folder.path() + "/second.pb";
    ASSERT_TRUE(WritePlan(*SolvePlacement(problem), first).ok());
    ASSERT_TRUE(WritePlan(*SolvePlacement(problem), second).ok());
    EXPECT_EQ(BytesOf(first), BytesOf(second));
    EXPECT_TRUE(
        ReadPlan(first, {.sha256 = problem.model_sha256, .n_layers = 12, .d_model = 1, .d_ff = 400}).ok());
  }
}

// CBC would write its progress there, where the commands print JSON.
TEST(SolvePlacement, PrintsNothing) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  PlacementProblem problem = SmallProblem(9, 12, 400, 2000);
  problem.sync_micros = 80;
  EXPECT_TRUE(SolvePlacement(problem).ok());
  std::fflush(nullptr);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace thermocline
