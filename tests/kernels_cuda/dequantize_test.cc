// Expansion of weights and embedding rows: every type, odd widths, rows with gaps, ids that name no row.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

using reference::RandomWeights;

class GpuDequantizeTest : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(All, GpuDequantizeTest, EveryGpu(), GpuName);

constexpr ElementType kTypes[] = {ElementType::kF32, ElementType::kF16, ElementType::kBF16,
                                  ElementType::kQ8_0, ElementType::kQ4_0};

// Less than a step of 256 columns and more than a warp's piece; rows of whole and of broken 16 bytes.
std::vector<int64_t> WidthsOf(ElementType type) {
  if (InfoOf(type).quantized()) return {32, 96, 256, 2304, 4128};
  return {1, 6, 64, 1032, 4099};
}

TEST_P(GpuDequantizeTest, ExpandsEveryTypeExactly) {
  for (const ElementType type : kTypes) {
    for (const int64_t cols : WidthsOf(type)) {
      for (const int64_t gap : {0, 1}) {
        const RandomWeights weights(type, 3, cols, 1, 0, gap * 4);
        const MatrixView<float> to = Poisoned<float>(3, cols, gap).view();
        const WeightView w = Upload(weights.view(), 4 * gap);
        ASSERT_EQ(gpu().kernels().dequantize(w, to, stream()), absl::OkStatus());
        const std::vector<float> result = Download(to);
        for (int64_t r = 0; r < 3; ++r) {
          const std::vector<float> expected = reference::Dequantize(type, weights.view().row_data(r), cols);
          EXPECT_EQ(std::vector<float>(result.begin() + r * cols, result.begin() + (r + 1) * cols), expected)
              << NameOf(type) << ", " << cols << " columns, row " << r;
        }
      }
    }
  }
}

TEST_P(GpuDequantizeTest, EmbedsTheRowsOfTheTokens) {
  const std::vector<int32_t> tokens = {6, 0, 6, 7, -1, 3};  // 7 and -1 name no row
  for (const ElementType type : kTypes) {
    const RandomWeights weights(type, 7, 64, 2);
    const MatrixView<float> out = Poisoned<float>(6, 64, 2).view();
    ASSERT_EQ(gpu().kernels().embed(Upload(weights.view()), Upload(tokens).data, out, stream()),
              absl::OkStatus());
    const std::vector<float> result = Download(out);
    for (size_t t = 0; t < tokens.size(); ++t) {
      const std::vector<float> row(result.begin() + static_cast<int64_t>(t) * 64,
                                   result.begin() + static_cast<int64_t>(t + 1) * 64);
      if (tokens[t] < 0 || tokens[t] >= 7) {
        for (const float value : row) EXPECT_TRUE(std::isnan(value));
      } else {
        EXPECT_EQ(row, reference::Dequantize(type, weights.view().row_data(tokens[t]), 64))
            << NameOf(type) << ", token " << tokens[t];
      }
    }
  }
}

TEST_P(GpuDequantizeTest, RefusesWhatItCannotExpand) {
  const RandomWeights weights(ElementType::kQ8_0, 2, 64, 3);
  const WeightView w = Upload(weights.view());
  const MatrixView<float> to = Poisoned<float>(2, 64, 0).view();
  const auto refused = [&](auto change, const std::vector<std::string>& words) {
    WeightView changed = w;
    change(changed);
    ExpectRefusal(gpu().kernels().dequantize(changed, to, stream()), words);
  };
  refused([](WeightView& v) { v.type = ElementType::kQ6_K; }, {"no GPU kernel for Q6_K"});
  EXPECT_EQ(gpu().kernels().dequantize({w.data, ElementType::kQ4_1, 2, 64, 68}, to, stream()).code(),
            absl::StatusCode::kUnimplemented);
  refused([](WeightView& v) { v.cols = 60; }, {"60 columns", "Q8_0's block of 32"});
  refused([](WeightView& v) { v.row_stride_bytes = 66; }, {"rows of 68 bytes stand 66 apart"});
  refused([](WeightView& v) { v.row_stride_bytes = 69; }, {"69 bytes apart", "multiples of 2"});
  refused([](WeightView& v) { v.data += 1; }, {"Q8_0 rows at address"});
  refused([](WeightView& v) { v.rows = 1; }, {"target is 2 x 64, needed is 1 x 64"});
  ExpectRefusal(gpu().kernels().embed(w, nullptr, to, stream()), {"tokens lies at"});
  ExpectRefusal(
      gpu().kernels().embed(w, Upload(std::vector<int32_t>{0, 1}).data, to.Columns(0, 32), stream()),
      {"out is 2 x 32, needed is 2 x 64"});
}

}  // namespace
}  // namespace thermocline
