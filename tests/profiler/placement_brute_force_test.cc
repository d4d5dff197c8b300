// The placement program against every assignment of small problems, and against simple plans of random ones.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

#include "profiler/placement.h"
#include "tests/profiler/placement_testing.h"

namespace thermocline {
namespace {

struct LayerOption {
  std::vector<int64_t> bytes;  // (accelerators)
  double cost = 0;
};

// Every set of neurons on every accelerator that memory apart is allowed; with `prefixes` only sets of the
// most frequent ones.
std::vector<LayerOption> LayerOptions(const PlacementProblem& problem, int layer, bool prefixes) {
  const std::vector<double>& frequency = problem.layers[layer].frequency;
  const size_t n = frequency.size();
  std::vector<LayerOption> options;
  for (size_t accelerator = 1; accelerator <= problem.accelerators.size(); ++accelerator) {
    for (uint32_t set = 0; set < (1u << n); ++set) {
      const int64_t hot = __builtin_popcount(set);
      if (!MaySplit(problem, layer, static_cast<int>(accelerator), hot)) continue;
      std::vector<int> device(n);
      double least_hot = 2, most_cold = -1;
      for (size_t i = 0; i < n; ++i) {
        const bool is_hot = (set >> i & 1) != 0;
        if (is_hot) device[i] = static_cast<int>(accelerator);
        (is_hot ? least_hot : most_cold) =
            is_hot ? std::min(least_hot, frequency[i]) : std::max(most_cold, frequency[i]);
      }
      if (prefixes && least_hot < most_cold) continue;
      LayerOption option{std::vector<int64_t>(problem.accelerators.size()),
                         LayerCost(problem, layer, device)};
      option.bytes[accelerator - 1] = hot * problem.layers[layer].neuron_bytes;
      options.push_back(option);
    }
  }
  return options;
}

double Cheapest(const PlacementProblem& problem, const std::vector<std::vector<LayerOption>>& options,
                size_t layer, const std::vector<int64_t>& left) {
  if (layer == options.size()) return 0;
  double best = std::numeric_limits<double>::infinity();
  for (const LayerOption& option : options[layer]) {
    std::vector<int64_t> rest = left;
    bool fits = true;
    for (size_t i = 0; i < rest.size(); ++i) fits = (rest[i] -= option.bytes[i]) >= 0 && fits;
    if (fits) best = std::min(best, option.cost + Cheapest(problem, options, layer + 1, rest));
  }
  return best;
}

double BruteForce(const PlacementProblem& problem, bool prefixes = false) {
  std::vector<std::vector<LayerOption>> options;
  for (size_t l = 0; l < problem.layers.size(); ++l) {
    options.push_back(LayerOptions(problem, static_cast<int>(l), prefixes));
  }
  std::vector<int64_t> left;
  for (const PlacementDevice& device : problem.accelerators) left.push_back(device.budget_bytes);
  return Cheapest(problem, options, 0, left);
}

class BruteForceTest : public testing::TestWithParam<uint32_t> {};

TEST_P(BruteForceTest, LatencyIsTheLeast) {
  for (const double sync_micros : {0.0, 60.0, 150.0, 1000.0}) {
    for (const int64_t budget : {4, 9, 14}) {
      for (const int64_t batch : {1, 4}) {
        PlacementProblem problem = SmallProblem(GetParam(), 3, 6, budget);
        problem.sync_micros = sync_micros;
        problem.batch_tokens = batch;
        const Plan plan = *SolvePlacement(problem);
        EXPECT_NEAR(PlanCost(problem, plan), BruteForce(problem), 1e-12)
            << "sync " << sync_micros << " budget " << budget << " batch " << batch;
        EXPECT_LT(plan.prediction.gap, 1e-6);
      }
    }
  }
}

TEST_P(BruteForceTest, ImpactIsTheLargest) {
  for (const double sync_micros : {0.0, 60.0, 150.0, 1000.0}) {
    for (const int64_t budget : {4, 9, 14, 18}) {
      PlacementProblem problem = SmallProblem(GetParam(), 3, 6, budget);
      problem.objective = PlacementObjective::kImpact;
      problem.sync_micros = sync_micros;
      // Neurons of different sizes, so that memory is no mere count.
      problem.layers[1].neuron_bytes = 700'000;
      problem.layers[2].neuron_bytes = 1'300'000;
      const Plan plan = *SolvePlacement(problem);
      EXPECT_NEAR(PlanCost(problem, plan), BruteForce(problem), 1e-9)
          << "sync " << sync_micros << " budget " << budget;
    }
  }
}

TEST_P(BruteForceTest, TwoAccelerators) {
  for (const PlacementObjective objective : {PlacementObjective::kLatency, PlacementObjective::kImpact}) {
    for (const double sync_micros : {0.0, 100.0}) {
      PlacementProblem problem = SmallProblem(GetParam(), 3, 5, 4);
      problem.objective = objective;
      problem.sync_micros = sync_micros;
      problem.accelerators.push_back({"cuda:0", DeviceKind::kCuda, 5'000'000, 300});
      EXPECT_NEAR(PlanCost(problem, *SolvePlacement(problem)), BruteForce(problem), 1e-9)
          << "sync " << sync_micros;
    }
  }
}

// With an accelerator hardly faster than the CPU the two sides balance before the memory is full. The best
// set of the most frequent neurons is found; other sets are at most one neuron's time a layer better.
TEST_P(BruteForceTest, BalancedSides) {
  for (const double accelerator_speed : {8.0, 10.0, 20.0}) {
    PlacementProblem problem = SmallProblem(GetParam(), 3, 6, 18);
    problem.accelerators[0].gb_per_second = accelerator_speed;
    problem.sync_micros = 20;
    const double cost = PlanCost(problem, *SolvePlacement(problem));
    EXPECT_NEAR(cost, BruteForce(problem, /*prefixes=*/true), 1e-12);
    double one_neuron_each = 0;
    for (const PlacementLayer& layer : problem.layers) {
      one_neuron_each += *std::max_element(layer.frequency.begin(), layer.frequency.end()) * 1e-4;
    }
    EXPECT_LE(cost, BruteForce(problem) + one_neuron_each);
  }
}

// Whether the most frequent cold neuron of a split layer could join the hot ones and make the layer cheaper.
bool CouldTakeOneMore(const PlacementProblem& problem, int layer, std::vector<int> device, int accelerator) {
  const std::vector<double>& frequency = problem.layers[layer].frequency;
  int64_t hot = 0, next = -1;
  for (int64_t i = 0; i < std::ssize(device); ++i) {
    if (device[i] > 0) ++hot;
    if (device[i] == 0 && (next < 0 || frequency[i] > frequency[next])) next = i;
  }
  if (next < 0 || !MaySplit(problem, layer, accelerator, hot + 1)) return false;
  const double before = LayerCost(problem, layer, device);
  device[next] = accelerator;
  return LayerCost(problem, layer, device) < before - 1e-9 * std::abs(before);
}

INSTANTIATE_TEST_SUITE_P(Seeds, BruteForceTest, testing::Values(1, 2, 3, 4, 5));

// A random problem of any kind: speeds, sizes, tenants, groups, accelerators.
PlacementProblem AnyProblem(uint32_t seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  const int64_t n_neurons = pick(1, 300);
  PlacementProblem problem = SmallProblem(seed, static_cast<int>(pick(1, 12)), n_neurons, 1);
  problem.objective = pick(0, 1) == 0 ? PlacementObjective::kLatency : PlacementObjective::kImpact;
  problem.sync_micros = static_cast<double>(pick(0, 3) * pick(0, 3000));
  problem.batch_tokens = pick(1, 3);
  problem.group_neurons = pick(1, 64);
  problem.cpu_gb_per_second = static_cast<double>(pick(5, 50));
  problem.scratch_bytes = pick(0, 5'000'000);
  problem.head_bytes = pick(0, 20'000'000);
  int64_t whole = problem.scratch_bytes + problem.head_bytes;
  for (PlacementLayer& layer : problem.layers) {
    layer.neuron_bytes = pick(1, 3) * 500'000;
    layer.attention_bytes = pick(0, 20'000'000);
    layer.kv_cache_bytes = pick(0, 9'000'000);
    layer.predictor_bytes = pick(0, 2'000'000);
    whole +=
        layer.attention_bytes + layer.kv_cache_bytes + layer.predictor_bytes + n_neurons * layer.neuron_bytes;
    if (pick(0, 3) == 0) std::fill(layer.frequency.begin() + n_neurons / 2, layer.frequency.end(), 0.0);
  }
  problem.accelerators.clear();
  const int64_t n_accelerators = pick(1, 3);
  for (int64_t i = 0; i < n_accelerators; ++i) {
    const int64_t budget = problem.scratch_bytes + 100'000'000 + pick(0, whole);
    problem.accelerators.push_back(
        {fmt::format("cuda:{}", i), DeviceKind::kCuda, budget, static_cast<double>(pick(4, 900))});
  }
  return problem;
}

TEST(SolvePlacementProperty, PlansAreSoundAndNeverBelowTheSimpleOnes) {
  for (uint32_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(seed);
    const PlacementProblem problem = AnyProblem(seed);
    const auto solved = SolvePlacement(problem);
    ASSERT_TRUE(solved.ok()) << solved.status();
    const Plan& plan = *solved;
    // Compared by what was optimised. Coverage is the impact's share; tenants add the same time to each.
    ASSERT_EQ(plan.alternatives.size(), 2u);
    for (const PlanAlternative& simple : plan.alternatives) {
      if (problem.objective == PlacementObjective::kLatency) {
        EXPECT_GE(plan.prediction.tokens_per_second, simple.prediction.tokens_per_second * (1 - 1e-12));
      } else {
        EXPECT_GE(plan.prediction.coverage, simple.prediction.coverage - 1e-12);
      }
    }
    std::vector<int64_t> neuron_bytes(plan.devices.size());
    ASSERT_EQ(plan.layers.size(), problem.layers.size());
    const auto devices = DeviceOfNeurons(plan, std::ssize(problem.layers[0].frequency));
    for (size_t l = 0; l < devices.size(); ++l) {
      std::set<int> accelerators;
      for (const int device : devices[l]) {
        ASSERT_GE(device, 0) << "a neuron in no unit or in two";
        neuron_bytes[device] += problem.layers[l].neuron_bytes;
        if (device > 0) accelerators.insert(device);
      }
      ASSERT_LE(accelerators.size(), 1u);
      if (!accelerators.empty()) {
        EXPECT_TRUE(MaySplit(problem, static_cast<int>(l), *accelerators.begin(), HotNeurons(plan.layers[l])))
            << "layer " << l << " hot " << HotNeurons(plan.layers[l]);
        const PlanDevice& device = plan.devices[*accelerators.begin()];
        if (device.budget_bytes - device.used_bytes() >= problem.layers[l].neuron_bytes) {
          EXPECT_FALSE(CouldTakeOneMore(problem, static_cast<int>(l), devices[l], *accelerators.begin()))
              << "layer " << l;
        }
      }
    }
    for (size_t i = 0; i < plan.devices.size(); ++i) {
      EXPECT_EQ(plan.devices[i].neuron_bytes, neuron_bytes[i]);
      if (i > 0) {
        EXPECT_LE(plan.devices[i].used_bytes(), plan.devices[i].budget_bytes);
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
