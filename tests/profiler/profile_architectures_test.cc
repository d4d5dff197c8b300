// Every architecture from counting to a plan that runs; counts against Hugging Face (make_architectures.py).
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "model/checkpoint.h"
#include "profiler/activation_counter.h"
#include "profiler/activity_rule.h"
#include "profiler/placement_choice.h"
#include "profiler/planning.h"
#include "scheduler/transformer.h"

namespace thermocline {
namespace {

const std::string kFolder = THERMOCLINE_SOURCE_DIR "/tests/support/golden/architectures/";

const nlohmann::json& Goldens() {
  static const nlohmann::json* const goldens =
      new nlohmann::json(nlohmann::json::parse(std::ifstream(kFolder + "activity.json")).at("models"));
  return *goldens;
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  for (const auto& [name, golden] : Goldens().items()) names.push_back(name);
  return names;
}

// An accelerator twice as fast as the CPU, and joins that cost these tiny layers next to nothing.
HardwareProfile Hardware() {
  HardwareProfile hardware;
  hardware.cpu_neuron_gb_per_second.values = {20};
  AcceleratorProfile& accelerator = hardware.accelerators.emplace_back();
  accelerator.name = "host";
  accelerator.kind = DeviceKind::kHost;
  accelerator.memory_bytes = int64_t{1} << 30;
  accelerator.read_gb_per_second.values = {40};
  accelerator.sync_micros.values = {1e-4};
  return hardware;
}

class ProfileArchitectures : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto checkpoint = Checkpoint::Open(kFolder + GetParam(), {.load_tokenizer = false});
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_ = std::make_unique<Checkpoint>(*std::move(checkpoint));
    team_ = *ThreadTeam::Create(2);
    cpu_ = {.team = team_.get(), .kernels = &BestKernels()};
    tokens_ = golden().at("tokens").get<std::vector<TokenId>>();
  }

  const nlohmann::json& golden() const { return Goldens().at(GetParam()); }
  const ModelConfig& config() const { return checkpoint_->config; }

  std::unique_ptr<Transformer> Load(const TransformerOptions& options) {
    weights_.push_back(std::make_unique<ModelWeights>(*ModelWeights::Load(*checkpoint_, cpu_)));
    TransformerOptions as_exact_as_goldens = options;
    as_exact_as_goldens.kv_type = ElementType::kF32;
    as_exact_as_goldens.pack_weights = false;
    auto transformer = Transformer::Create(config(), *weights_.back(), cpu_, as_exact_as_goldens);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    return transformer.ok() ? *std::move(transformer) : nullptr;
  }

  std::vector<NeuronCounts> CountWith(double threshold) {
    const auto model = Load({});
    ActivationCounter counter(config(), cpu_, threshold);
    model->SetFeedForwardObserver(&counter);
    std::vector<float> logits(static_cast<size_t>(config().n_vocab));
    EXPECT_TRUE(model->Forward({.tokens = tokens_, .kind = StepKind::kPrefill}, logits).ok());
    return counter.layers();
  }

  // As `profile` without --threshold makes it.
  ActivationProfile Profile() {
    ActivationProfile profile = EmptyProfile(config(), std::string(64, 'e'), 0);
    const std::vector<NeuronCounts> counts = CountWith(0);
    for (size_t l = 0; l < counts.size(); ++l) profile.layers[l].profiled = counts[l];
    profile.profiled_tokens = std::ssize(tokens_);
    profile.footprint = FootprintOf(config(), *weights_.back());
    return profile;
  }

  Plan PlanFor(const ActivationProfile& profile, int64_t budget_bytes) const {
    const auto problem = BuildPlacementProblem(
        profile, std::string(64, 'f'), Hardware(),
        {.device = DeviceKind::kHost, .budget_bytes = budget_bytes, .kv_type = ElementType::kF32});
    EXPECT_TRUE(problem.ok()) << problem.status();
    auto plan = ChoosePlacement(*problem);
    EXPECT_TRUE(plan.ok()) << plan.status();
    return plan.ok() ? *std::move(plan) : Plan();
  }

  // Logits of every token in decode steps of one.
  std::vector<float> Decode(Transformer& model) const {
    std::vector<float> all, logits(static_cast<size_t>(config().n_vocab));
    for (size_t t = 0; t < tokens_.size(); ++t) {
      EXPECT_TRUE(
          model.Forward({.tokens = {&tokens_[t], 1}, .first_position = static_cast<int64_t>(t)}, logits)
              .ok());
      all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<ThreadTeam> team_;
  CpuContext cpu_;
  std::vector<std::unique_ptr<ModelWeights>> weights_;
  std::vector<TokenId> tokens_;
};

// The script made sure that no value is so near to turning over that rounding decides.
TEST_P(ProfileArchitectures, CountsEqualHuggingFace) {
  const auto expected = golden().at("active").get<std::vector<std::vector<uint64_t>>>();
  const std::vector<NeuronCounts> counts = CountWith(golden().at("threshold").get<double>());
  ASSERT_EQ(counts.size(), expected.size());
  for (size_t l = 0; l < counts.size(); ++l) EXPECT_EQ(counts[l].active, expected[l]) << l;
}

TEST_P(ProfileArchitectures, WithoutThresholdActiveIsWhatIsNotZero) {
  const ActivationProfile profile = Profile();
  const bool zeros = HasTrueZeros(config().activation);
  EXPECT_EQ(DescribeActivity(profile).name, "not zero");
  EXPECT_EQ(DescribeActivity(profile).text.find("is always") == std::string::npos, zeros);
  double active = 0;
  for (const LayerActivations& layer : profile.layers)
    for (const uint64_t count : layer.profiled.active) active += static_cast<double>(count);
  const auto all = static_cast<double>(config().n_layers * config().d_ff * std::ssize(tokens_));
  // GELU rounds to zero where its input is far below.
  EXPECT_EQ(active > 0.99 * all, !zeros) << active / all;
}

TEST_P(ProfileArchitectures, PlansRunAndGiveTheDenseAnswer) {
  const ActivationProfile profile = Profile();
  const Plan all = PlanFor(profile, int64_t{1} << 30);
  const int64_t scratch = all.devices[1].scratch_bytes;
  // Room for some of the neurons behind all that comes first, and for one layer at least.
  const Plan plan = PlanFor(profile, scratch + (all.accelerator_bytes() - scratch) * 7 / 10);
  EXPECT_GT(plan.hot_neurons(), 0);
  EXPECT_LT(plan.hot_neurons(), config().n_layers * config().d_ff);
  const bool silent = config().has_silent_neurons();
  if (!silent) {
    EXPECT_FALSE(plan.splits_layers());
    EXPECT_NE(plan.prediction.by_layer.find("every token reads every neuron"), std::string::npos);
  }
  const std::vector<float> dense = Decode(*Load({}));
  const auto split = Load({.mode = silent ? NeuronMode::kExact : NeuronMode::kDense, .plan = &plan});
  ASSERT_NE(split, nullptr);
  const std::vector<float> ours = Decode(*split);
  if (!plan.splits_layers()) {
    EXPECT_EQ(ours, dense);  // the same sums on another device
    return;
  }
  float largest = 0, worst = 0;
  for (size_t i = 0; i < dense.size(); ++i) {
    largest = std::max(largest, std::abs(dense[i]));
    worst = std::max(worst, std::abs(ours[i] - dense[i]));
  }
  EXPECT_LE(worst, 1e-4f * largest);  // sums in another order
}

INSTANTIATE_TEST_SUITE_P(All, ProfileArchitectures, ::testing::ValuesIn(Names()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace thermocline
