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
                                      {5, 64, 4, 0}, {2, 33, 3, 16}, {4, 128, 0, 4}, {7, 300, 0, 0}};

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

TEST_P(GpuElementwiseTest, AddRefusesUnlikeShapes) {
  const auto x = Poisoned<float>(2, 3), y = Poisoned<float>(3, 2);
  EXPECT_EQ(gpu().kernels().add(y.view(), x.view(), stream()).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace thermocline
