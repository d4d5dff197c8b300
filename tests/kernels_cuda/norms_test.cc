// RMSNorm, LayerNorm and rotary embedding: odd widths, views with gaps, in place.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

class GpuNormsTest : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(All, GpuNormsTest, EveryGpu(), GpuName);

// Rows of vectors of four, odd rows, rows of more than a block takes at once.
constexpr int64_t kWidths[] = {1, 3, 4, 64, 127, 576, 2047, 2048, 2052, 6149};

std::vector<double> LayerNorm(std::span<const float> x, std::span<const float> weight,
                              std::span<const float> bias, double epsilon) {
  double mean = 0.0, variance = 0.0;
  for (const float value : x) mean += value / static_cast<double>(x.size());
  for (const float value : x) variance += (value - mean) * (value - mean) / static_cast<double>(x.size());
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) {
    const double normal = (x[i] - mean) / std::sqrt(variance + epsilon) * weight[i];
    out.push_back(normal + (bias.empty() ? 0.0 : bias[i]));
  }
  return out;
}

TEST_P(GpuNormsTest, RmsNormEqualsTheReference) {
  for (const int64_t cols : kWidths) {
    for (const int64_t gap : {0, 3, 4}) {
      const FloatMatrix x = FloatMatrix::Random(3, cols, 1, gap);
      const FloatMatrix weight = FloatMatrix::Random(1, cols, 2);
      const MatrixView<float> out = Poisoned<float>(3, cols, gap).view();
      ASSERT_EQ(gpu().kernels().rms_norm(Upload(x.view()).view(), Upload(weight.view()).data(), 1e-5f, out,
                                         stream()),
                absl::OkStatus());
      const std::vector<float> result = Download(out);
      for (int64_t t = 0; t < 3; ++t) {
        const std::vector<double> expected = reference::RmsNorm(x.view().row(t), weight.view().row(0), 1e-5f);
        for (int64_t i = 0; i < cols; ++i) {
          const double value = expected[static_cast<size_t>(i)];
          // The sum of squares has no cancellation; its error halves in the root.
          ASSERT_NEAR(result[static_cast<size_t>(t * cols + i)], value, std::abs(value) * 0x1p-20)
              << cols << " columns, row " << t << ", column " << i;
        }
      }
    }
  }
}

TEST_P(GpuNormsTest, LayerNormEqualsTheReference) {
  for (const int64_t cols : kWidths) {
    for (const bool with_bias : {true, false}) {
      const FloatMatrix x = FloatMatrix::Random(2, cols, 3, cols % 4 == 0 ? 0 : 1);
      const FloatMatrix weight = FloatMatrix::Random(1, cols, 4), bias = FloatMatrix::Random(1, cols, 5);
      const MatrixView<float> out = Poisoned<float>(2, cols, 0).view();
      ASSERT_EQ(
          gpu().kernels().layer_norm(Upload(x.view()).view(), Upload(weight.view()).data(),
                                     with_bias ? Upload(bias.view()).data() : nullptr, 1e-3f, out, stream()),
          absl::OkStatus());
      const std::vector<float> result = Download(out);
      for (int64_t t = 0; t < 2; ++t) {
        const std::vector<double> expected =
            LayerNorm(x.view().row(t), weight.view().row(0),
                      with_bias ? bias.view().row(0) : std::span<const float>(), 1e-3);
        for (int64_t i = 0; i < cols; ++i) {
          // Values of up to one, whose mean is off by ulps of one, over a root of no less than that of
          // epsilon.
          ASSERT_NEAR(result[static_cast<size_t>(t * cols + i)], expected[static_cast<size_t>(i)], 0x1p-15)
              << cols << " columns, row " << t << ", column " << i;
        }
      }
    }
  }
}

TEST_P(GpuNormsTest, LayerNormOfALargeMeanKeepsItsDigits) {
  FloatMatrix x = FloatMatrix::Random(1, 1000, 6);
  for (float& value : x.view().row(0)) value += 4096.0f;
  const std::vector<float> ones(1000, 1.0f);
  const MatrixView<float> out = Poisoned<float>(1, 1000, 0).view();
  ASSERT_EQ(
      gpu().kernels().layer_norm(Upload(x.view()).view(), Upload(ones).data, nullptr, 1e-5f, out, stream()),
      absl::OkStatus());
  const std::vector<float> result = Download(out);
  const std::vector<double> expected = LayerNorm(x.view().row(0), ones, {}, 1e-5);
  // The mean is off by an ulp of 4096 at most a few times over, values stand 0.6 about it.
  for (size_t i = 0; i < 1000; ++i) ASSERT_NEAR(result[i], expected[i], 4 * 0x1p-11);
}

TEST_P(GpuNormsTest, NormsWorkInPlaceAndRowByRow) {
  const FloatMatrix x = FloatMatrix::Random(5, 300, 7), weight = FloatMatrix::Random(1, 300, 8);
  const float* const device_weight = Upload(weight.view()).data();
  const MatrixView<float> whole = Upload(x.view()).view();
  ASSERT_EQ(gpu().kernels().rms_norm(whole, device_weight, 1e-5f, whole, stream()), absl::OkStatus());
  const std::vector<float> together = Download(whole);
  for (int64_t t = 0; t < 5; ++t) {
    const MatrixView<float> out = Poisoned<float>(1, 300, 0).view();
    ASSERT_EQ(
        gpu().kernels().rms_norm(Upload(x.view().Rows(t, 1)).view(), device_weight, 1e-5f, out, stream()),
        absl::OkStatus());
    EXPECT_TRUE(reference::SameBits(
        Download(out), std::vector<float>(together.begin() + t * 300, together.begin() + (t + 1) * 300)));
  }
}

TEST_P(GpuNormsTest, NormsRefuseShapesThatDoNotFit) {
  const FloatMatrix x = FloatMatrix::Random(2, 8, 9);
  const MatrixView<float> view = Upload(x.view()).view();
  const auto refused = [&](MatrixView<const float> from, const float* weight, MatrixView<float> to,
                           const std::vector<std::string>& words) {
    ExpectRefusal(gpu().kernels().rms_norm(from, weight, 1e-5f, to, stream()), words);
    ExpectRefusal(gpu().kernels().layer_norm(from, weight, nullptr, 1e-5f, to, stream()), words);
  };
  refused(view, view.data, {view.data, 2, 7, 8}, {"out is 2 x 7", "needed is 2 x 8"});
  refused(view, nullptr, view, {"weight lies at"});
  refused({view.data, 0, 8, 8}, view.data, view, {"x is 0 x 8"});
  refused({view.data, 2, 8, 7}, view.data, view, {"x: rows of 8 stand 7 apart"});
}

TEST_P(GpuNormsTest, RopeEqualsTheReference) {
  struct Shape {
    int64_t heads, d_head, pairs;
  };
  for (const Shape shape :
       {Shape{9, 64, 32}, Shape{3, 80, 16}, Shape{1, 2, 1}, Shape{5, 7, 3}, Shape{32, 128, 64}}) {
    for (const bool half : {true, false}) {
      const FloatMatrix x = FloatMatrix::Random(3, shape.heads * shape.d_head, 10, 5);
      const FloatMatrix cos = FloatMatrix::Random(3, shape.pairs, 11, 1),
                        sin = FloatMatrix::Random(3, shape.pairs, 12);
      const MatrixView<float> rotated = Upload(x.view()).view();
      ASSERT_EQ(gpu().kernels().rope(Upload(cos.view()).view(), Upload(sin.view()).view(), shape.d_head, half,
                                     rotated, stream()),
                absl::OkStatus());
      const std::vector<float> result = Download(rotated);
      for (int64_t t = 0; t < 3; ++t) {
        for (int64_t head = 0; head < shape.heads; ++head) {
          const std::vector<double> expected =
              reference::Rope(x.view().row(t).subspan(static_cast<size_t>(head * shape.d_head),
                                                      static_cast<size_t>(shape.d_head)),
                              cos.view().row(t), sin.view().row(t), half);
          for (int64_t i = 0; i < shape.d_head; ++i) {
            // Two products of values below one and their sum.
            ASSERT_NEAR(result[static_cast<size_t>((t * shape.heads + head) * shape.d_head + i)],
                        expected[static_cast<size_t>(i)], 3 * 0x1p-24);
          }
        }
      }
    }
  }
}

TEST_P(GpuNormsTest, RopeRefusesShapesThatDoNotFit) {
  const MatrixView<float> x = Upload(FloatMatrix::Random(2, 24, 13).view()).view();
  const MatrixView<float> angles = Upload(FloatMatrix::Random(2, 4, 14).view()).view();
  ExpectRefusal(gpu().kernels().rope(angles, angles, 7, true, x, stream()), {"24 columns", "heads of 7"});
  ExpectRefusal(gpu().kernels().rope(angles, angles, 6, true, x, stream()), {"4 pairs", "d_head of 6"});
  ExpectRefusal(gpu().kernels().rope(angles.Rows(0, 1), angles, 8, true, x, stream()), {"cos is 1 x 4"});
  ExpectRefusal(gpu().kernels().rope(angles, angles.Columns(0, 3), 8, true, x, stream()), {"sin is 2 x 3"});
}

}  // namespace
}  // namespace thermocline
