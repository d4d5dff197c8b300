// plan.pb: what is written is read back, and a table of files that are refused.
// SPDX-License-Identifier: Apache-2.0
#include "model/plan.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "thermocline/v1/plan.pb.h"

namespace thermocline {
namespace {

const ModelIdentity kModel{.sha256 = std::string(64, 'a'), .n_layers = 12, .d_model = 8, .d_ff = 4};

Plan SamplePlan() {
  Plan plan{.model_sha256 = kModel.sha256,
            .profile_sha256 = std::string(64, 'b'),
            .objective = PlacementObjective::kImpact,
            .batch_tokens = 3};
  plan.devices = {{.name = "cpu", .neuron_bytes = 12 * 20},
                  {.name = "cuda:0",
                   .kind = DeviceKind::kCuda,
                   .budget_bytes = 1000,
                   .attention_bytes = 1,
                   .kv_cache_bytes = 2,
                   .predictor_bytes = 3,
                   .head_bytes = 4,
                   .scratch_bytes = 5,
                   .neuron_bytes = 12 * 20},
                  {.name = "host", .kind = DeviceKind::kHost, .budget_bytes = 7}};
  for (int l = 0; l < 12; ++l) {
    PlanLayer layer{.attention_device = l % 3, .kv_cache_device = 1, .predictor_device = 2};
    layer.units = {{.device = 1, .bytes = 20, .probability = 0.5 + l * 0.01, .neurons = {1, 3}},
                   {.device = 0, .bytes = 20, .probability = 0.125, .neurons = {0, 2}}};
    plan.layers.push_back(layer);
  }
  plan.prediction = {12.5, "memory", 0.001, 0.75, 0.5, "planned by layer: alike"};
  plan.alternatives = {{"global top-k", 24, {10, "synchronisation", 0.1, 0.5, 0.25}},
                       {"first n layers", 16, {9, "gpu bandwidth", 0.2, 0.4, 0.125}}};
  return plan;
}

TEST(PlacementObjectives, NamesAreReadBackAndOthersRefused) {
  for (const PlacementObjective objective :
       {PlacementObjective::kLatency, PlacementObjective::kImpact, PlacementObjective::kLayers}) {
    EXPECT_EQ(*ParseObjective(NameOf(objective)), objective);
  }
  ExpectRefusal(ParseObjective("speed").status(), {"speed", "latency", "impact", "layers"});
}

void ExpectSame(const PlanPrediction& a, const PlanPrediction& b) {
  EXPECT_EQ(a.tokens_per_second, b.tokens_per_second);
  EXPECT_EQ(a.binding, b.binding);
  EXPECT_EQ(a.gap, b.gap);
  EXPECT_EQ(a.coverage, b.coverage);
  EXPECT_EQ(a.held_out_coverage, b.held_out_coverage);
  EXPECT_EQ(a.by_layer, b.by_layer);
}

std::string BytesOf(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(Plan, TotalsCountTheAccelerators) {
  const Plan plan = SamplePlan();
  EXPECT_EQ(plan.hot_neurons(), 24);
  EXPECT_EQ(plan.accelerator_bytes(), 255);
  EXPECT_EQ(plan.accelerator_budget(), 1007);
}

TEST(Plan, KnowsWhichLayersAreWhole) {
  Plan plan = SamplePlan();
  EXPECT_EQ(plan.whole_layers(), 0);
  EXPECT_TRUE(plan.splits_layers());
  for (size_t l = 0; l < plan.layers.size(); ++l)
    for (PlanUnit& unit : plan.layers[l].units) unit.device = l < 5 ? 2 : 0;
  EXPECT_EQ(plan.whole_layers(), 5);
  EXPECT_FALSE(plan.splits_layers());
}

TEST(Plan, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/plan.pb";
  const Plan plan = SamplePlan();
  ASSERT_TRUE(WritePlan(plan, path).ok());
  const auto read = ReadPlan(path, kModel);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->model_sha256, plan.model_sha256);
  EXPECT_EQ(read->profile_sha256, plan.profile_sha256);
  EXPECT_EQ(read->objective, plan.objective);
  EXPECT_EQ(read->batch_tokens, plan.batch_tokens);
  ASSERT_EQ(read->devices.size(), plan.devices.size());
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    EXPECT_EQ(read->devices[i].name, plan.devices[i].name);
    EXPECT_EQ(read->devices[i].kind, plan.devices[i].kind);
    EXPECT_EQ(read->devices[i].budget_bytes, plan.devices[i].budget_bytes);
    EXPECT_EQ(read->devices[i].attention_bytes, plan.devices[i].attention_bytes);
    EXPECT_EQ(read->devices[i].kv_cache_bytes, plan.devices[i].kv_cache_bytes);
    EXPECT_EQ(read->devices[i].predictor_bytes, plan.devices[i].predictor_bytes);
    EXPECT_EQ(read->devices[i].head_bytes, plan.devices[i].head_bytes);
    EXPECT_EQ(read->devices[i].scratch_bytes, plan.devices[i].scratch_bytes);
    EXPECT_EQ(read->devices[i].neuron_bytes, plan.devices[i].neuron_bytes);
  }
  ASSERT_EQ(read->layers.size(), plan.layers.size());
  for (size_t l = 0; l < plan.layers.size(); ++l) {
    EXPECT_EQ(read->layers[l].attention_device, plan.layers[l].attention_device);
    EXPECT_EQ(read->layers[l].predictor_device, plan.layers[l].predictor_device);
    EXPECT_EQ(read->layers[l].kv_cache_device, plan.layers[l].kv_cache_device);
    ASSERT_EQ(read->layers[l].units.size(), plan.layers[l].units.size());
    for (size_t u = 0; u < plan.layers[l].units.size(); ++u) {
      EXPECT_EQ(read->layers[l].units[u].device, plan.layers[l].units[u].device);
      EXPECT_EQ(read->layers[l].units[u].bytes, plan.layers[l].units[u].bytes);
      EXPECT_EQ(read->layers[l].units[u].probability, plan.layers[l].units[u].probability);
      EXPECT_EQ(read->layers[l].units[u].neurons, plan.layers[l].units[u].neurons);
    }
  }
  ExpectSame(read->prediction, plan.prediction);
  ASSERT_EQ(read->alternatives.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(read->alternatives[i].name, plan.alternatives[i].name);
    EXPECT_EQ(read->alternatives[i].hot_neurons, plan.alternatives[i].hot_neurons);
    ExpectSame(read->alternatives[i].prediction, plan.alternatives[i].prediction);
  }
}

TEST(Plan, TheSamePlanGivesTheSameBytes) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WritePlan(SamplePlan(), folder.path() + "/a.pb").ok());
  ASSERT_TRUE(WritePlan(SamplePlan(), folder.path() + "/b.pb").ok());
  EXPECT_EQ(BytesOf(folder.path() + "/a.pb"), BytesOf(folder.path() + "/b.pb"));
}

TEST(Plan, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/plan.pb";
  Plan plan = SamplePlan();
  plan.layers.resize(1);
  plan.devices[0].neuron_bytes = plan.devices[1].neuron_bytes = 20;
  ModelIdentity model = kModel;
  model.n_layers = 1;
  ASSERT_TRUE(WritePlan(plan, path).ok());
  ASSERT_TRUE(ReadPlan(path, model).ok());
  const std::string whole = BytesOf(path);
  for (size_t length = 0; length < whole.size(); ++length) {
    folder.Write("plan.pb", whole.substr(0, length));
    ExpectRefusal(ReadPlan(path, model).status(), {path});
  }
}

TEST(Plan, WritingIntoNowhereLeavesNothing) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/missing/plan.pb";
  ExpectRefusal(WritePlan(SamplePlan(), path), {path});
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Plan, NoFileIsNotFound) {
  const TemporaryFolder folder;
  EXPECT_EQ(ReadPlan(folder.path() + "/plan.pb", kModel).status().code(), absl::StatusCode::kNotFound);
}

struct Row {
  std::string name;
  std::function<void(v1::Plan&)> spoil;
  std::vector<std::string> words;
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
using M = v1::Plan;
const Row kRows[] = {
    {"other_model",
     [](M& m) { m.set_model_sha256(std::string(64, 'c')); },
     {std::string(64, 'c'), std::string(64, 'a')}},
    {"no_objective", [](M& m) { m.clear_objective(); }, {"objective is 0"}},
    {"unknown_objective",
     [](M& m) { m.set_objective(static_cast<v1::PlacementObjective>(17)); },
     {"objective is 17"}},
    {"no_batch", [](M& m) { m.clear_batch_tokens(); }, {"batch_tokens is 0", "1"}},
    {"no_devices", [](M& m) { m.clear_devices(); }, {"devices is empty"}},
    {"no_kind", [](M& m) { m.mutable_devices(1)->clear_kind(); }, {"devices[1].kind is 0"}},
    {"unknown_kind",
     [](M& m) { m.mutable_devices(1)->set_kind(static_cast<v1::DeviceKind>(9)); },
     {"devices[1].kind is 9"}},
    {"cpu_twice",
     [](M& m) { m.mutable_devices(1)->set_kind(v1::DEVICE_KIND_CPU); },
     {"devices[1].kind", "CPU comes first"}},
    {"cpu_not_first",
     [](M& m) { m.mutable_devices(0)->set_kind(v1::DEVICE_KIND_HOST); },
     {"devices[0].kind", "CPU comes first"}},
    {"by_layer_of_two_lines",
     [](M& m) { m.mutable_prediction()->set_by_layer("one\ntwo"); },
     {"prediction.by_layer is no line"}},
    {"by_layer_too_long",
     [](M& m) { m.mutable_prediction()->set_by_layer(std::string(1001, 'a')); },
     {"prediction.by_layer", "1000"}},
    {"no_name", [](M& m) { m.mutable_devices(1)->clear_name(); }, {"devices[1].name is empty"}},
    {"negative_budget",
     [](M& m) { m.mutable_devices(1)->set_budget_bytes(-1); },
     {"devices[1].budget_bytes is -1", "0"}},
    {"negative_tenant",
     [](M& m) { m.mutable_devices(1)->set_kv_cache_bytes(-3); },
     {"devices[1].kv_cache_bytes is -3"}},
    {"bytes_overflow",
     [](M& m) {
       m.mutable_devices(1)->set_head_bytes(INT64_MAX);
       m.mutable_devices(1)->set_scratch_bytes(INT64_MAX);
     },
     {"devices[1]", "2^63"}},
    {"budgets_overflow",
     [](M& m) {
       m.mutable_devices(1)->set_budget_bytes(INT64_MAX);
       m.mutable_devices(2)->set_budget_bytes(INT64_MAX);
     },
     {"budget_bytes", "2^63"}},
    {"above_budget",
     [](M& m) { m.mutable_devices(1)->set_budget_bytes(254); },
     {"devices[1] holds 255 bytes", "254"}},
    {"neuron_bytes_differ",
     [](M& m) { m.mutable_devices(1)->set_neuron_bytes(239); },
     {"devices[1].neuron_bytes is 239", "240"}},
    {"unit_bytes_overflow",
     [](M& m) {
       for (auto& layer : *m.mutable_layers()) layer.mutable_units(0)->set_bytes(INT64_MAX);
     },
     {"2^64"}},
    {"fewer_layers", [](M& m) { m.mutable_layers()->RemoveLast(); }, {"11 layers", "12"}},
    {"layer_doubled", [](M& m) { m.mutable_layers(5)->set_layer(4); }, {"layers[5].layer is 4", "5"}},
    {"layers_swapped", [](M& m) { m.mutable_layers()->SwapElements(2, 10); }, {"layers[2].layer is 10", "2"}},
    {"attention_nowhere",
     [](M& m) { m.mutable_layers(3)->set_attention_device(3); },
     {"layers[3].attention_device is 3", "2"}},
    {"cache_nowhere",
     [](M& m) { m.mutable_layers(3)->set_kv_cache_device(-1); },
     {"layers[3].kv_cache_device is -1", "0"}},
    {"predictor_nowhere",
     [](M& m) { m.mutable_layers(3)->set_predictor_device(3); },
     {"layers[3].predictor_device is 3", "2"}},
    {"unit_nowhere",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->set_device(7); },
     {"layers[3].units[1].device is 7", "2"}},
    {"unit_bytes_negative",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->set_bytes(-1); },
     {"layers[3].units[1].bytes is -1"}},
    {"unit_probability_nan",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->set_probability(kNan); },
     {"layers[3].units[1].probability is nan"}},
    {"unit_empty",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->clear_neurons(); },
     {"layers[3].units[1].neurons is empty"}},
    {"neuron_outside",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->set_neurons(1, 4); },
     {"layers[3].units[1] holds neuron 4", "have 4"}},
    {"neuron_twice",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->set_neurons(1, 3); },
     {"layers[3].units[1] holds neuron 3", "another unit"}},
    {"neurons_descend",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->set_neurons(1, 0); },
     {"layers[3].units[1] holds neuron 0 behind 0"}},
    {"neuron_missing",
     [](M& m) { m.mutable_layers(3)->mutable_units(1)->mutable_neurons()->RemoveLast(); },
     {"layers[3] places 3 neurons", "4"}},
    {"no_prediction", [](M& m) { m.clear_prediction(); }, {"prediction is missing"}},
    {"unknown_binding",
     [](M& m) { m.mutable_prediction()->set_binding("mem\nory"); },
     {"prediction.binding is 'mem", "nothing"}},
    {"coverage_above_one",
     [](M& m) { m.mutable_prediction()->set_coverage(1.5); },
     {"prediction.coverage is 1.5", "1"}},
    {"speed_infinite",
     [](M& m) { m.mutable_prediction()->set_tokens_per_second(std::numeric_limits<double>::infinity()); },
     {"prediction.tokens_per_second is inf"}},
    {"alternative_negative",
     [](M& m) { m.mutable_alternatives(1)->set_hot_neurons(-1); },
     {"alternatives[1].hot_neurons is -1"}},
    {"alternative_without_prediction",
     [](M& m) { m.mutable_alternatives(0)->clear_prediction(); },
     {"alternatives[0].prediction is missing"}},
};

class PlanRefusalTest : public testing::TestWithParam<Row> {};

TEST_P(PlanRefusalTest, NamesPathFieldAndLimit) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/plan.pb";
  ASSERT_TRUE(WritePlan(SamplePlan(), path).ok());
  v1::Plan message;
  ASSERT_TRUE(message.ParseFromString(BytesOf(path)));
  GetParam().spoil(message);
  folder.Write("plan.pb", message.SerializeAsString());
  const absl::Status status = ReadPlan(path, kModel).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  std::vector<std::string> words = GetParam().words;
  words.push_back(path);
  ExpectRefusal(status, words);
}

INSTANTIATE_TEST_SUITE_P(Rows, PlanRefusalTest, testing::ValuesIn(kRows),
                         [](const auto& row) { return row.param.name; });

TEST(PlanRefusal, OfAModelOfOtherWidthNamesBoth) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/plan.pb";
  ASSERT_TRUE(WritePlan(SamplePlan(), path).ok());
  ModelIdentity wider = kModel;
  wider.d_ff = 6;
  ExpectRefusal(ReadPlan(path, wider).status(), {path, "places 4 neurons", "6"});
  ModelIdentity narrower = kModel;
  narrower.d_ff = 3;
  ExpectRefusal(ReadPlan(path, narrower).status(), {path, "neuron 3", "have 3"});
}

}  // namespace
}  // namespace thermocline
