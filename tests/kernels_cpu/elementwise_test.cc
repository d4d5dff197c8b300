// Normalisation, rotary embedding, gated activation and addition at every length around the vector widths.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

const std::vector<int64_t> kLengths = {1,  2,  3,  4,  5,  7,  8,   9,   15,  16,
                                       17, 31, 33, 63, 64, 65, 127, 576, 1001};

const std::vector<ActivationFunction> kActivations = {
    Activation::kRelu, Activation::kSilu, {Activation::kFatRelu, 0.4f}};

class ElementwiseTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, ElementwiseTest, EveryIsa(), IsaName);

TEST_P(ElementwiseTest, RmsNormEqualsTheReference) {
  for (const int64_t length : kLengths) {
    const FloatMatrix x = FloatMatrix::Random(1, length, 1), weight = FloatMatrix::Random(1, length, 2);
    FloatMatrix out = FloatMatrix::Poisoned(1, length);
    kernels().rms_norm(x.view().row(0), weight.view().row(0), 1e-5f, out.view().row(0));
    const std::vector<double> expected = reference::RmsNorm(x.view().row(0), weight.view().row(0), 1e-5f);
    // The mean of positive squares is as exact as its sum; root, quotient and two products add half an ulp
    // each.
    for (int64_t i = 0; i < length; ++i) {
      const double value = expected[static_cast<size_t>(i)];
      ASSERT_NEAR(out.view().row_data(0)[i], value,
                  SumTolerance(length, std::abs(value)) + 0x1p-22 * std::abs(value))
          << length;
    }
  }
}

TEST_P(ElementwiseTest, RmsNormMayOverwriteItsInput) {
  FloatMatrix x = FloatMatrix::Random(1, 100, 1);
  const FloatMatrix weight = FloatMatrix::Random(1, 100, 2);
  FloatMatrix out = FloatMatrix::Poisoned(1, 100);
  kernels().rms_norm(x.view().row(0), weight.view().row(0), 1e-5f, out.view().row(0));
  kernels().rms_norm(x.view().row(0), weight.view().row(0), 1e-5f, x.view().row(0));
  EXPECT_TRUE(reference::SameBits(x.view(), out.view()));
}

TEST_P(ElementwiseTest, RmsNormOfZeroIsZero) {
  const std::vector<float> zero(40, 0.0f), weight(40, 2.0f);
  std::vector<float> out(40, NAN);
  kernels().rms_norm(zero, weight, 1e-5f, out);
  EXPECT_EQ(out, zero);
}

TEST_P(ElementwiseTest, RopeEqualsTheReferenceAndLeavesTheRest) {
  for (const bool half : {true, false}) {
    for (const int64_t pairs : {1, 2, 5, 8, 16, 20, 31, 32, 40, 64}) {
      for (const int64_t rest : {0, 6}) {
        const FloatMatrix angles = FloatMatrix::Random(1, pairs, 3);
        FloatMatrix cos = FloatMatrix::Poisoned(1, pairs), sin = FloatMatrix::Poisoned(1, pairs);
        for (int64_t i = 0; i < pairs; ++i) {
          cos.view().data[i] = std::cos(3.0f * angles.view().data[i]);
          sin.view().data[i] = std::sin(3.0f * angles.view().data[i]);
        }
        FloatMatrix head = FloatMatrix::Random(1, 2 * pairs + rest, 4);
        const std::vector<double> expected =
            reference::Rope(head.view().row(0), cos.view().row(0), sin.view().row(0), half);
        const std::vector<float> before(head.view().row(0).begin(), head.view().row(0).end());
        kernels().rope(head.view().row(0), cos.view().row(0), sin.view().row(0), half);
        for (int64_t i = 0; i < 2 * pairs; ++i)  // two products of magnitude at most one and their sum
          ASSERT_NEAR(head.view().data[i], expected[static_cast<size_t>(i)], 3 * 0x1p-24)
              << pairs << " " << i;
        for (int64_t i = 2 * pairs; i < 2 * pairs + rest; ++i)
          ASSERT_EQ(head.view().data[i], before[static_cast<size_t>(i)]);
      }
    }
  }
}

TEST_P(ElementwiseTest, GatedActivationEqualsTheReference) {
  for (const ActivationFunction activation : kActivations) {
    for (const int64_t length : kLengths) {
      FloatMatrix gate = FloatMatrix::Random(1, length, 5);
      for (float& value : gate.view().row(0)) value *= 30.0f;
      const FloatMatrix up = FloatMatrix::Random(1, length, 6);
      FloatMatrix hidden = FloatMatrix::Poisoned(1, length);
      kernels().gated_activation(activation, gate.view().row(0), up.view().row(0), hidden.view().row(0));
      for (int64_t i = 0; i < length; ++i) {
        const double expected = reference::Activate(activation, gate.view().data[i]) * up.view().data[i];
        // The vector exponential errs by up to 3 ulp; sum, quotient and product by half an ulp each.
        ASSERT_NEAR(hidden.view().data[i], expected, 5 * 0x1p-23 * std::abs(expected) + 1e-37)
            << gate.view().data[i];
      }
      // In place over either input.
      kernels().gated_activation(activation, gate.view().row(0), up.view().row(0), gate.view().row(0));
      EXPECT_TRUE(reference::SameBits(gate.view(), hidden.view()));
    }
  }
}

TEST_P(ElementwiseTest, ActivationsOfExtremesAreFiniteAndNotANumberStaysVisible) {
  const std::vector<float> gate = {-1e30f, -500.0f, -105.0f, -89.0f, -0.0f, 0.0f, 89.0f, 500.0f, 1e30f};
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> hidden(gate.size(), NAN);
  for (const ActivationFunction activation : kActivations) {
    kernels().gated_activation(activation, gate, up, hidden);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double expected = reference::Activate(activation, gate[i]);
      // exp(-x) overflows below -88.7, where the true value is less than 1e-36.
      EXPECT_NEAR(hidden[i], expected, 5 * 0x1p-23 * std::abs(expected) + 1e-36) << gate[i];
    }
    const std::vector<float> bad(9, std::numeric_limits<float>::quiet_NaN());
    kernels().gated_activation(activation, bad, up, hidden);
    for (const float value : hidden) EXPECT_TRUE(std::isnan(value));
  }
}

TEST_P(ElementwiseTest, FatReluKeepsWhatReachesTheThreshold) {
  const float threshold = 0.75f, below = std::nextafter(threshold, 0.0f);
  const std::vector<float> gate = {threshold, below, 1.0f, 0.0f, -0.0f, -2.0f, 0.1f};
  const std::vector<float> up(gate.size(), 2.0f);
  std::vector<float> hidden(gate.size(), NAN);
  kernels().gated_activation({Activation::kFatRelu, threshold}, gate, up, hidden);
  EXPECT_EQ(hidden, (std::vector<float>{1.5f, 0.0f, 2.0f, 0.0f, 0.0f, 0.0f, 0.0f}));
}

TEST_P(ElementwiseTest, ASilentNeuronIsZeroWhateverItsUpProductIs) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {inf, -inf, NAN}) {
    const std::vector<float> gate(19, -1.0f), up(19, bad);
    std::vector<float> hidden(19, NAN);
    for (const ActivationFunction activation :
         {ActivationFunction(Activation::kRelu), ActivationFunction(Activation::kFatRelu, 0.5f)}) {
      kernels().gated_activation(activation, gate, up, hidden);
      for (const float value : hidden) EXPECT_EQ(value, 0.0f);
    }
    const std::vector<float> firing(19, 1.0f);
    kernels().gated_activation(Activation::kRelu, firing, up, hidden);
    for (const float value : hidden) EXPECT_FALSE(std::isfinite(value));
  }
}

TEST_P(ElementwiseTest, ReluSilencesExactly) {
  const std::vector<float> gate(37, -1.5f), up(37, 3.0f);
  std::vector<float> hidden(37, NAN);
  kernels().gated_activation(Activation::kRelu, gate, up, hidden);
  for (const float value : hidden) EXPECT_EQ(value, 0.0f);
}

// Errors are of erf and tanh beside 1, times the input.
TEST_P(ElementwiseTest, GeluAndSquaredReluEqualTheReference) {
  std::vector<float> gate;
  for (float x = -12.0f; x <= 12.0f; x += 0.0078125f) gate.push_back(x);
  std::vector<float> hidden(gate.size());
  for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh, Activation::kRelu2}) {
    kernels().activate(activation, gate, hidden);
    for (size_t i = 0; i < gate.size(); ++i) {
      const double expected = reference::Activate(activation, gate[i]);
      const double scale = std::max(std::abs(expected), std::abs(static_cast<double>(gate[i])));
      ASSERT_NEAR(hidden[i], expected, 6 * 0x1p-23 * scale) << NameOf(activation) << " of " << gate[i];
    }
  }
  const std::vector<float> extremes = {-1e30f, -500.0f, -0.0f, 500.0f, NAN};
  std::vector<float> values(extremes.size());
  for (const Activation activation : {Activation::kGelu, Activation::kGeluTanh}) {
    kernels().activate(activation, extremes, values);
    EXPECT_EQ(values[0], 0.0f);
    EXPECT_NEAR(values[1], 0.0f, 1e-30f);  // exp is held above its underflow
    EXPECT_EQ(values[2], 0.0f);
    EXPECT_EQ(values[3], 500.0f);
    EXPECT_TRUE(std::isnan(values[4]));
  }
}

TEST_P(ElementwiseTest, DReluSilencesByGateAndByUp) {
  std::vector<float> hidden(19);
  for (const auto& [gate, up, expected] : {std::tuple(2.0f, 3.0f, 6.0f), std::tuple(2.0f, -3.0f, 0.0f),
                                           std::tuple(-2.0f, 3.0f, 0.0f), std::tuple(-2.0f, NAN, 0.0f)}) {
    kernels().gated_activation(Activation::kDRelu, std::vector<float>(19, gate), std::vector<float>(19, up),
                               hidden);
    for (const float value : hidden) EXPECT_EQ(value, expected);
  }
}

TEST_P(ElementwiseTest, LayerNormEqualsTheReference) {
  for (const int64_t length : kLengths) {
    const FloatMatrix x = FloatMatrix::Random(1, length, 3), weight = FloatMatrix::Random(1, length, 4);
    const FloatMatrix bias = FloatMatrix::Random(1, length, 5);
    double mean = 0, variance = 0;
    for (const float value : x.view().row(0)) mean += value / static_cast<double>(length);
    for (const float value : x.view().row(0))
      variance += (value - mean) * (value - mean) / static_cast<double>(length);
    FloatMatrix out = FloatMatrix::Poisoned(1, length, 0);
    for (const bool biased : {false, true}) {
      kernels().layer_norm(x.view().row(0), weight.view().row(0),
                           biased ? bias.view().row(0) : std::span<const float>(), 1e-3f, out.view().row(0));
      for (int64_t i = 0; i < length; ++i) {
        const double expected =
            (x.view().data[i] - mean) / std::sqrt(variance + 1e-3f) * weight.view().data[i] +
            (biased ? bias.view().data[i] : 0.0);
        // The mean's rounding is divided by the deviation, at least the epsilon's 0.03.
        ASSERT_NEAR(out.view().data[i], expected, SumTolerance(length, 1.0) * 40) << length;
      }
    }
  }
}

TEST_P(ElementwiseTest, SoftCapsBend) {
  for (const int64_t length : kLengths) {
    FloatMatrix x = FloatMatrix::Random(1, length, 6);
    const std::vector<float> before(x.view().row(0).begin(), x.view().row(0).end());
    for (const float cap : {0.5f, 30.0f}) {
      std::vector<float> values = before;
      kernels().soft_cap(cap, values);
      for (size_t i = 0; i < values.size(); ++i) {
        const double expected = cap * std::tanh(static_cast<double>(before[i]) / cap);
        ASSERT_NEAR(values[i], expected, 6 * 0x1p-23 * std::abs(static_cast<double>(before[i]))) << length;
      }
    }
  }
  std::vector<float> extremes = {1e30f, -1e30f, 0.0f, NAN};
  kernels().soft_cap(30.0f, extremes);
  EXPECT_EQ(extremes[0], 30.0f);
  EXPECT_EQ(extremes[1], -30.0f);
  EXPECT_EQ(extremes[2], 0.0f);
  EXPECT_TRUE(std::isnan(extremes[3]));
}

TEST_P(ElementwiseTest, AddIsExact) {
  for (const int64_t length : kLengths) {
    FloatMatrix x = FloatMatrix::Random(1, length, 7);
    const FloatMatrix y = FloatMatrix::Random(1, length, 8);
    const std::vector<float> before(x.view().row(0).begin(), x.view().row(0).end());
    kernels().add(y.view().row(0), x.view().row(0));
    for (int64_t i = 0; i < length; ++i)
      ASSERT_EQ(x.view().data[i], before[static_cast<size_t>(i)] + y.view().data[i]) << length;
  }
}

}  // namespace
}  // namespace thermocline
