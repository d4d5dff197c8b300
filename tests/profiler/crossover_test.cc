// The crossover table's arithmetic and refusals; its figures are for benchmarks.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/crossover.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/support/refusal.h"

namespace thermocline {
namespace {

CrossoverRow Row(double sparsity, double speedup) {
  return {.sparsity = sparsity, .speedup = {.values = {speedup}}};
}

TEST(Crossover, SparseWinsFromTheFirstRowAfterWhichItNeverLoses) {
  EXPECT_EQ(Crossover{}.wins_from(), std::nullopt);
  EXPECT_EQ((Crossover{{Row(0, 1.1), Row(0.5, 2)}}).wins_from(), 0.0);
  EXPECT_EQ((Crossover{{Row(0, 1.1), Row(0.1, 0.9), Row(0.2, 1.1), Row(0.5, 2)}}).wins_from(), 0.2);
  EXPECT_EQ((Crossover{{Row(0, 0.5), Row(0.5, 0.9)}}).wins_from(), std::nullopt);
}

class CrossoverTest : public testing::Test {
 protected:
  const std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
  const CpuContext context_{.team = team_.get(), .kernels = &BestKernels()};
};

TEST_F(CrossoverTest, HasARowForEachSparsityAndASampleForEachRepetition) {
  const auto crossover = MeasureCrossover(context_, {.shape = {.d_model = 64, .d_ff = 200},
                                                     .sparsities = {0, 0.5, 0.999},
                                                     .working_set_bytes = 1,
                                                     .repetitions = 3});
  ASSERT_TRUE(crossover.ok()) << crossover.status();
  ASSERT_EQ(crossover->rows.size(), 3u);
  EXPECT_EQ(crossover->rows[0].neurons, 200);
  EXPECT_EQ(crossover->rows[1].neurons, 100);
  EXPECT_EQ(crossover->rows[2].neurons, 1);  // of which there is always one
  EXPECT_EQ(crossover->rows[0].speedup_bound, 1);
  EXPECT_EQ(crossover->rows[1].speedup_bound, 2);
  EXPECT_EQ(crossover->rows[2].speedup_bound, 200);
  for (const CrossoverRow& row : crossover->rows) {
    ASSERT_EQ(row.speedup.values.size(), 3u);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(row.speedup.values[i], row.dense_micros.values[i] / row.sparse_micros.values[i]);
    EXPECT_GT(row.speedup.min(), 0);
  }
}

TEST_F(CrossoverTest, RefusesWhatItCannotMeasure) {
  const SyntheticShape shape{.d_model = 64, .d_ff = 200};
  const auto refused = [&](const CrossoverOptions& options, const std::string& word) {
    ExpectRefusal(MeasureCrossover(context_, options).status(), {word});
  };
  refused({.shape = shape, .repetitions = 0}, "0 repetitions");
  refused({.shape = shape, .sparsities = {0.5, 0.5}}, "0.5");
  refused({.shape = shape, .sparsities = {1}}, "sparsity of 1");
  refused({.shape = shape, .sparsities = {-0.1}}, "-0.1");
  refused({.shape = {.d_model = 64, .d_ff = 0}}, "0 neurons");
}

}  // namespace
}  // namespace thermocline
