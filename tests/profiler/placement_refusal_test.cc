// Placement problems that are refused: what the message names.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "profiler/placement.h"
#include "tests/profiler/placement_testing.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Row {
  std::string name;
  std::function<void(PlacementProblem&)> spoil;
  std::vector<std::string> words;
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

using P = PlacementProblem;
const Row kRows[] = {
    {"no_layers", [](P& p) { p.layers.clear(); }, {"layers is 0", "1"}},
    {"no_neurons", [](P& p) { p.layers[0].frequency.clear(); }, {"layers[0].frequency is 0"}},
    {"ragged", [](P& p) { p.layers[1].frequency.pop_back(); }, {"layers[1].frequency", "5", "6"}},
    {"ragged_held_out",
     [](P& p) { p.layers[1].held_out_frequency.clear(); },
     {"layers[1].held_out_frequency", "0", "6"}},
    {"frequency_nan", [](P& p) { p.layers[1].frequency[2] = kNan; }, {"layers[1].frequency[2] is nan", "1"}},
    {"frequency_negative", [](P& p) { p.layers[0].frequency[5] = -0.1; }, {"frequency[5] is -0.1", "0"}},
    {"frequency_above_one", [](P& p) { p.layers[0].frequency[5] = 1.5; }, {"frequency[5] is 1.5", "1"}},
    {"held_out_infinite",
     [](P& p) { p.layers[0].held_out_frequency[1] = kInfinity; },
     {"layers[0].held_out_frequency[1] is inf"}},
    {"neuron_bytes_zero", [](P& p) { p.layers[1].neuron_bytes = 0; }, {"layers[1].neuron_bytes is 0", "1"}},
    {"neuron_bytes_absurd",
     [](P& p) { p.layers[1].neuron_bytes = INT64_MAX; },
     {"layers[1].neuron_bytes", "1125899906842624"}},
    {"sum_absurd",
     [](P& p) { p.layers[1].neuron_bytes = int64_t{1} << 49; },
     {"layers[1]", "1125899906842624"}},
    {"attention_negative",
     [](P& p) { p.layers[0].attention_bytes = -1; },
     {"layers[0].attention_bytes is -1", "0"}},
    {"cache_negative", [](P& p) { p.layers[0].kv_cache_bytes = -1; }, {"layers[0].kv_cache_bytes is -1"}},
    {"predictor_negative",
     [](P& p) { p.layers[0].predictor_bytes = -1; },
     {"layers[0].predictor_bytes is -1"}},
    {"head_negative", [](P& p) { p.head_bytes = -1; }, {"head_bytes is -1"}},
    {"scratch_absurd", [](P& p) { p.scratch_bytes = INT64_MAX; }, {"scratch_bytes is 9223372036854775807"}},
    {"budget_zero",
     [](P& p) { p.accelerators[0].budget_bytes = 0; },
     {"accelerators[0].budget_bytes is 0", "1"}},
    {"budget_negative", [](P& p) { p.accelerators[0].budget_bytes = -5; }, {"budget_bytes is -5"}},
    {"budget_absurd",
     [](P& p) { p.accelerators[0].budget_bytes = INT64_MAX; },
     {"budget_bytes is 9223372036854775807", "1125899906842624"}},
    {"speed_zero",
     [](P& p) { p.accelerators[0].gb_per_second = 0; },
     {"accelerators[0].gb_per_second is 0", "above 0"}},
    {"speed_nan", [](P& p) { p.accelerators[0].gb_per_second = kNan; }, {"gb_per_second is nan"}},
    {"cpu_speed_negative", [](P& p) { p.cpu_gb_per_second = -1; }, {"cpu_gb_per_second is -1"}},
    {"cpu_speed_infinite", [](P& p) { p.cpu_gb_per_second = kInfinity; }, {"cpu_gb_per_second is inf"}},
    {"cpu_as_accelerator", [](P& p) { p.accelerators[0].kind = DeviceKind::kCpu; }, {"accelerators[0].kind"}},
    {"unknown_kind",
     [](P& p) { p.accelerators[0].kind = static_cast<DeviceKind>(7); },
     {"accelerators[0].kind is 7"}},
    {"no_name", [](P& p) { p.accelerators[0].name.clear(); }, {"accelerators[0].name is empty"}},
    {"name_twice",
     [](P& p) { p.accelerators.push_back(p.accelerators[0]); },
     {"accelerators[1].name is 'host'"}},
    {"sync_negative", [](P& p) { p.sync_micros = -1; }, {"sync_micros is -1", "0"}},
    {"sync_nan", [](P& p) { p.sync_micros = kNan; }, {"sync_micros is nan"}},
    {"batch_zero", [](P& p) { p.batch_tokens = 0; }, {"batch_tokens is 0", "1"}},
    {"group_zero", [](P& p) { p.group_neurons = 0; }, {"group_neurons is 0", "1"}},
    {"time_limit_zero", [](P& p) { p.time_limit_seconds = 0; }, {"time_limit_seconds is 0"}},
    {"unknown_objective", [](P& p) { p.objective = static_cast<PlacementObjective>(9); }, {"objective is 9"}},
};

class PlacementRefusalTest : public testing::TestWithParam<Row> {};

TEST_P(PlacementRefusalTest, NamesFieldValueAndLimit) {
  PlacementProblem problem = SmallProblem(1, 2, 6, 5);
  ASSERT_TRUE(SolvePlacement(problem).ok());
  GetParam().spoil(problem);
  const absl::Status status = SolvePlacement(problem).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  ExpectRefusal(status, GetParam().words);
}

INSTANTIATE_TEST_SUITE_P(Rows, PlacementRefusalTest, testing::ValuesIn(kRows),
                         [](const auto& row) { return row.param.name; });

TEST(PlacementRefusal, TooSmallABudgetSaysWhatWouldFit) {
  PlacementProblem problem = SmallProblem(1, 2, 6, 5);
  problem.group_neurons = 4;
  problem.scratch_bytes = 3'000'000;
  problem.head_bytes = 50;
  problem.accelerators[0].budget_bytes = 6'999'999;
  const absl::Status status = SolvePlacement(problem).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  ExpectRefusal(status, {"host", "6999999", "3000000", "7000000", "15000050"});
  problem.accelerators[0].budget_bytes = 7'000'000;
  EXPECT_TRUE(SolvePlacement(problem).ok());
}

}  // namespace
}  // namespace thermocline
