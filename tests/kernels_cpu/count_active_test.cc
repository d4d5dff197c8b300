// Counting of active neurons on every instruction set, at every width around the vectors'.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels_cpu/parallel.h"
#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

struct Counts {
  std::vector<uint64_t> active;
  std::vector<double> magnitude;
  bool operator==(const Counts&) const = default;
};

Counts Zeros(int64_t width) {
  return {std::vector<uint64_t>(static_cast<size_t>(width)), std::vector<double>(static_cast<size_t>(width))};
}

class CountActiveTest : public IsaTest {
 protected:
  void Count(ActivationFunction activation, float threshold, MatrixView<const float> gate,
             Counts& counts) const {
    kernels().count_active(activation, threshold, gate, counts.active, counts.magnitude);
  }
};
INSTANTIATE_TEST_SUITE_P(All, CountActiveTest, EveryIsa(), IsaName);

// The kernels' own activation, whose exactness elementwise_test.cc judges, one element at a time.
float Activate(const KernelTable& kernels, ActivationFunction activation, float gate) {
  const float one = 1.0f;
  float value = NAN;
  kernels.gated_activation(activation, {&gate, 1}, {&one, 1}, {&value, 1});
  return value;
}

TEST_P(CountActiveTest, EqualsALoopOverTokens) {
  for (const ActivationFunction activation :
       {ActivationFunction(Activation::kRelu), ActivationFunction(Activation::kSilu),
        ActivationFunction(Activation::kFatRelu, 0.3f)}) {
    for (const float threshold : {0.0f, 0.2f}) {
      for (const int64_t width : {1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257}) {
        for (const int64_t tokens : {1, 2, 37}) {
          const FloatMatrix gate = FloatMatrix::Random(tokens, width, 11, /*gap=*/5);
          Counts counts = Zeros(width), expected = Zeros(width);
          for (size_t i = 0; i < counts.active.size(); ++i) {  // sums go on from what is there
            counts.active[i] = expected.active[i] = (uint64_t{1} << 40) + i;
            counts.magnitude[i] = expected.magnitude[i] = 0.1 * static_cast<double>(i);
          }
          Count(activation, threshold, gate.view(), counts);
          for (int64_t t = 0; t < tokens; ++t) {
            for (size_t i = 0; i < expected.active.size(); ++i) {
              const float value = std::abs(Activate(kernels(), activation, gate.view().row(t)[i]));
              if (!(value > threshold)) continue;
              ++expected.active[i];
              expected.magnitude[i] += value;
            }
          }
          ASSERT_EQ(counts, expected)
              << width << " neurons, " << tokens << " tokens, threshold " << threshold;
        }
      }
    }
  }
}

TEST_P(CountActiveTest, OnlyValuesAboveTheThresholdAreActive) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> row = {-1.0f, -0.0f, 0.0f, 1e-45f, 0.25f, std::nextafter(0.25f, 1.0f), inf, NAN};
  const MatrixView<const float> gate{row.data(), 1, 8, 8};
  Counts zero = Zeros(8), quarter = Zeros(8);
  Count(Activation::kRelu, 0.0f, gate, zero);
  EXPECT_EQ(zero.active, (std::vector<uint64_t>{0, 0, 0, 1, 1, 1, 1, 0}));
  EXPECT_EQ(zero.magnitude[0], 0.0);
  EXPECT_EQ(zero.magnitude[4], 0.25);
  EXPECT_EQ(zero.magnitude[7], 0.0);
  Count(Activation::kRelu, 0.25f, gate, quarter);
  EXPECT_EQ(quarter.active, (std::vector<uint64_t>{0, 0, 0, 0, 0, 1, 1, 0}));
}

TEST_P(CountActiveTest, NegativeSiluCountsByItsMagnitude) {
  const std::vector<float> row = {-1.0f};  // silu(-1) = -0.26894
  const MatrixView<const float> gate{row.data(), 1, 1, 1};
  Counts below = Zeros(1), above = Zeros(1);
  Count(Activation::kSilu, 0.268f, gate, below);
  Count(Activation::kSilu, 0.269f, gate, above);
  EXPECT_EQ(below.active[0], 1u);
  EXPECT_NEAR(below.magnitude[0], 0.268941, 1e-6);
  EXPECT_EQ(above, Zeros(1));
}

TEST_P(CountActiveTest, CutsBetweenTokensAndThreadsDoNotChangeABit) {
  const int64_t tokens = 129, width = 1100;
  const FloatMatrix gate = FloatMatrix::Random(tokens, width, 12);
  Counts whole = Zeros(width), halves = Zeros(width);
  Count(Activation::kSilu, 0.05f, gate.view(), whole);
  Count(Activation::kSilu, 0.05f, gate.view().Rows(0, 50), halves);
  Count(Activation::kSilu, 0.05f, gate.view().Rows(50, tokens - 50), halves);
  EXPECT_EQ(halves, whole);
  for (const int threads : {1, 2, 3, 4}) {
    const auto team = *ThreadTeam::Create(threads);
    Counts counts = Zeros(width);
    CountActive({.team = team.get(), .kernels = &kernels()}, Activation::kSilu, 0.05f, gate.view(),
                counts.active, counts.magnitude);
    EXPECT_EQ(counts, whole) << threads;
  }
}

}  // namespace
}  // namespace thermocline
