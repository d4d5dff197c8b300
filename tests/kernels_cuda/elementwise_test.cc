// Addition and gated activation on ragged shapes, aligned and not, gapped and packed.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

class GpuElementwiseTest : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(All, GpuElementwiseTest, EveryGpu(), GpuName);

// How a matrix lies: floats between its rows, and bytes from an aligned address to its first.
struct Layout {
  int64_t rows;
  int64_t cols;
  int64_t gap;
  int64_t offset_bytes;
};
const std::vector<Layout> kLayouts = {{1, 1, 0, 0},  {1, 4, 0, 0},   {3, 5, 0, 0},   {2, 7, 1, 0},
                                      {5, 64, 4, 0}, {2, 33, 3, 16}, {4, 128, 0, 4}, {2, 1300, 0, 0}};

TEST_P(GpuElementwiseTest, AddIsExact) {
  for (const Layout& l : kLayouts) {
    const FloatMatrix x = FloatMatrix::Random(l.rows, l.cols, 1, l.gap);
    const FloatMatrix y = FloatMatrix::Random(l.rows, l.cols, 2, l.gap);
    const auto on_device = Upload(x.view(), l.offset_bytes);
    const absl::Status added =
        gpu().kernels().add(Upload(y.view(), l.offset_bytes).view(), on_device.view(), stream());
    ASSERT_TRUE(added.ok()) << added;
    const std::vector<float> sum = Download(on_device.view());
    for (int64_t r = 0; r < l.rows; ++r) {
      for (int64_t c = 0; c < l.cols; ++c) {
        ASSERT_EQ(sum[static_cast<size_t>(r * l.cols + c)], x.view().row_data(r)[c] + y.view().row_data(r)[c])
            << l.rows << " x " << l.cols << " at " << r << ", " << c;
      }
    }
  }
}

TEST_P(GpuElementwiseTest, AddMayDoubleItself) {
  const FloatMatrix x = FloatMatrix::Random(3, 21, 1);
  const auto on_device = Upload(x.view());
  ASSERT_TRUE(gpu().kernels().add(on_device.view(), on_device.view(), stream()).ok());
  const std::vector<float> sum = Download(on_device.view());
  for (size_t i = 0; i < sum.size(); ++i) EXPECT_EQ(sum[i], 2 * x.view().data[i]);
}

TEST_P(GpuElementwiseTest, AddTakesMoreRowsThanAGridHas) {
  constexpr int64_t kRows = 65535 + 3, kCols = 3;
  const std::vector<float> ones(static_cast<size_t>(kRows * kCols), 1.0f);
  const auto x = Upload(MatrixView<const float>{ones.data(), kRows, kCols, kCols});
  ASSERT_TRUE(gpu().kernels().add(x.view(), x.view(), stream()).ok());
  EXPECT_EQ(Download(DeviceArray<float>{x.data(), kRows * kCols}), std::vector<float>(ones.size(), 2.0f));
}

struct ActivationCase {
  GpuActivationFunction of_gpu;
  double (*expected)(double);
  double ulps;  // of the result, for what is not exact
};
const std::vector<ActivationCase> kActivations = {
    {{GpuActivation::kNone}, [](double x) { return x; }, 0},
    {{GpuActivation::kRelu}, [](double x) { return x > 0 ? x : 0; }, 0},
    {{GpuActivation::kFatRelu, 0.25f}, [](double x) { return x >= 0.25 ? x : 0; }, 0},
    // CUDA's expf errs by two ulps; sum and quotient add half of one each.
    {{GpuActivation::kSilu}, [](double x) { return x / (1 + std::exp(-x)); }, 3},
};

TEST_P(GpuElementwiseTest, ActivationsEqualTheirFormulas) {
  for (const ActivationCase& c : kActivations) {
    for (const Layout& l : kLayouts) {
      for (const bool gated : {true, false}) {
        FloatMatrix gate = FloatMatrix::Random(l.rows, l.cols, 1, l.gap);
        gate.view().data[0] = 0.25f;
        const FloatMatrix up = FloatMatrix::Random(l.rows, l.cols, 2, l.gap);
        const auto hidden = Poisoned<float>(l.rows, l.cols, l.gap, l.offset_bytes);
        const MatrixView<float> on_device = Upload(gate.view(), l.offset_bytes).view();
        const MatrixView<const float> up_on_device =
            gated ? Upload(up.view(), l.offset_bytes).view() : MatrixView<float>{};
        const auto& launch = gpu().kernels().gated_activation;
        ASSERT_TRUE(launch(c.of_gpu, on_device, up_on_device, hidden.view(), stream()).ok());
        const std::vector<float> result = Download(hidden.view());
        ASSERT_TRUE(launch(c.of_gpu, on_device, up_on_device, on_device, stream()).ok());
        EXPECT_EQ(Download(on_device), result) << "in place";
        for (int64_t r = 0; r < l.rows; ++r) {
          for (int64_t i = 0; i < l.cols; ++i) {
            const double active = c.expected(double{gate.view().row_data(r)[i]});
            const double expected = gated ? active * double{up.view().row_data(r)[i]} : active;
            // A product rounds once more.
            const double tolerance = (c.ulps + (gated ? 0.5 : 0.0)) * 0x1p-23 * std::abs(expected);
            ASSERT_NEAR(double{result[static_cast<size_t>(r * l.cols + i)]}, expected, tolerance)
                << static_cast<int>(c.of_gpu.kind) << ", " << l.rows << " x " << l.cols << " at " << r << ", "
                << i;
          }
        }
      }
    }
  }
}

TEST_P(GpuElementwiseTest, SiluOfLargeValuesIsFinite) {
  const DeviceArray<float> x = Upload(std::vector<float>{-200.0f, -88.0f, 0.0f, 200.0f, 3e38f, -3e38f});
  const MatrixView<float> view = {x.data, 1, x.size, x.size};
  ASSERT_TRUE(gpu().kernels().gated_activation({GpuActivation::kSilu}, view, {}, view, stream()).ok());
  const std::vector<float> result = Download(view);
  EXPECT_EQ(result[0], 0.0f);
  EXPECT_NEAR(result[1], 0.0f, 1e-35f);
  EXPECT_EQ(result[2], 0.0f);
  EXPECT_EQ(result[3], 200.0f);
  EXPECT_EQ(result[4], 3e38f);
  EXPECT_EQ(result[5], 0.0f);
}

TEST_P(GpuElementwiseTest, SilenceIsZeroWhateverUpIsAndNanStays) {
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  for (const size_t copies : {1, 4}) {  // element by element, and four at a time
    std::vector<float> gates, ups;
    for (const auto& [gate, up] : {std::pair{-1.0f, nan}, {-1.0f, infinity}, {nan, 1.0f}, {1.0f, 2.0f}}) {
      gates.insert(gates.end(), copies, gate);
      ups.insert(ups.end(), copies, up);
    }
    const DeviceArray<float> gate = Upload(gates), up = Upload(ups);
    const MatrixView<float> x = {gate.data, 1, gate.size, gate.size};
    ASSERT_TRUE(gpu().kernels().gated_activation({}, x, {up.data, 1, up.size, up.size}, x, stream()).ok());
    const std::vector<float> result = Download(x);
    for (size_t i = 0; i < copies; ++i) {
      EXPECT_EQ(result[i], 0.0f);
      EXPECT_EQ(result[copies + i], 0.0f);
      EXPECT_TRUE(std::isnan(result[2 * copies + i]));
      EXPECT_EQ(result[3 * copies + i], 2.0f);
    }
  }
}

TEST_P(GpuElementwiseTest, RefuseUnlikeShapesAndUnknownActivations) {
  const auto x = Poisoned<float>(2, 3).view(), y = Poisoned<float>(3, 2).view();
  const GpuKernels& kernels = gpu().kernels();
  const GpuActivationFunction relu;
  for (const absl::Status& status :
       {kernels.add(y, x, stream()), kernels.gated_activation(relu, x, y, x, stream()),
        kernels.gated_activation(relu, x, x, y, stream()),
        kernels.gated_activation({static_cast<GpuActivation>(9)}, x, x, x, stream())}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  }
}

TEST_P(GpuElementwiseTest, NoRowsAreNoWork) {
  const auto x = Poisoned<float>(1, 3).view();
  EXPECT_TRUE(gpu().kernels().add(x.Rows(0, 0), x.Rows(0, 0), stream()).ok());
}

}  // namespace
}  // namespace thermocline
