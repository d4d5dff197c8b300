// RoPE frequencies and angles against independent values.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/rope_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>

namespace thermocline {
namespace {

ModelConfig Config() {
  ModelConfig config;
  config.d_head = 128;
  config.rope_dimensions = 128;
  config.rope_theta = 500000.0;
  return config;
}

TEST(RopeTable, PlainFrequencies) {
  const RopeTable table(Config());
  ASSERT_EQ(table.pairs(), 64);
  EXPECT_DOUBLE_EQ(table.frequencies()[0], 1.0);
  EXPECT_NEAR(table.frequencies()[32], 1 / std::sqrt(500000.0), 1e-15);
}

TEST(RopeTable, LinearScalingDividesAll) {
  ModelConfig config = Config();
  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = 4;
  const RopeTable plain(Config()), scaled(config);
  for (size_t i = 0; i < 64; ++i) EXPECT_DOUBLE_EQ(scaled.frequencies()[i] * 4, plain.frequencies()[i]);
}

// Llama 3.1's parameters; expected values from tests/support/golden/make_rope_golden.py (numpy, from the
// published formula).
TEST(RopeTable, Llama3Scaling) {
  ModelConfig config = Config();
  config.rope_scaling = {.kind = RopeScaling::Kind::kLlama3,
                         .factor = 8,
                         .low_freq_factor = 1,
                         .high_freq_factor = 4,
                         .original_context_length = 8192,
                         .frequency_divisors = {}};
  const RopeTable table(config);
  const std::pair<size_t, double> expected[] = {
      {0, 1},
      {10, 0.128687373433},
      {28, 0.00321144599475},
      {30, 0.00137189356776},
      {32, 0.000524846160993},
      {34, 0.000178507812768},
      {36, 7.78465527393e-05},
      {40, 3.42810219595e-05},
      {63, 3.06892598891e-07},
  };
  for (const auto& [pair, frequency] : expected) {
    EXPECT_NEAR(table.frequencies()[pair], frequency, 1e-6 * frequency) << pair;
  }
}

TEST(RopeTable, DivisorsFromTheFile) {
  ModelConfig config = Config();
  config.rope_scaling.frequency_divisors.assign(64, 1.0f);
  config.rope_scaling.frequency_divisors[63] = 8.0f;
  const RopeTable table(config), plain(Config());
  EXPECT_DOUBLE_EQ(table.frequencies()[0], plain.frequencies()[0]);
  EXPECT_DOUBLE_EQ(table.frequencies()[63], plain.frequencies()[63] / 8);

  config.rope_scaling.kind = RopeScaling::Kind::kLinear;
  config.rope_scaling.factor = 2;
  EXPECT_DOUBLE_EQ(RopeTable(config).frequencies()[63], plain.frequencies()[63] / 16);
}

TEST(RopeTable, AnglesArePositionTimesFrequency) {
  const RopeTable table(Config());
  Matrix<float> cos = *Matrix<float>::Create(2, 64), sin = *Matrix<float>::Create(2, 64);
  table.Angles(100, cos.view(), sin.view());
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_NEAR(cos.row(1)[i], std::cos(101 * table.frequencies()[i]), 1e-7);
    EXPECT_NEAR(sin.row(1)[i], std::sin(101 * table.frequencies()[i]), 1e-7);
  }
}

}  // namespace
}  // namespace thermocline
