// Weighted sums of rows: values, silent rows, column and batch invariance.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;

// Activations of which about one in `period` is not zero; other tokens have others.
FloatMatrix SparseActivations(int64_t tokens, int64_t n_rows, uint32_t period, uint32_t seed) {
  FloatMatrix h = FloatMatrix::Random(tokens, n_rows, seed);
  std::mt19937 random(seed);
  for (int64_t t = 0; t < tokens; ++t)
    for (float& value : h.view().row(t))
      if (random() % period != 0) value = random() % 2 == 0 ? 0.0f : -0.0f;
  return h;
}

FloatMatrix Copy(const FloatMatrix& from) {
  FloatMatrix to = FloatMatrix::Poisoned(from.view().rows, from.view().cols);
  for (int64_t r = 0; r < to.view().rows; ++r) std::ranges::copy(from.view().row(r), to.view().row_data(r));
  return to;
}

class AccumulateRowsTest : public IsaTypeTest {
 protected:
  std::vector<int64_t> Widths() const {
    const int64_t block = type().block_elements;
    if (block == 1) return {1, 7, 31, 33, 255, 530};
    if (block == 32) return {32, 96, 544};
    return {256, 768};
  }
};
INSTANTIATE_TEST_SUITE_P(All, AccumulateRowsTest, EveryIsaAndType(), IsaTypeName);

TEST_P(AccumulateRowsTest, EqualsTheReferenceOnRaggedShapes) {
  uint32_t seed = 1;
  for (const int64_t cols : Widths()) {
    for (const int64_t n_rows : {1, 3, 4, 9, 20}) {
      for (const int64_t tokens : {1, 2, 5}) {
        for (const uint32_t period : {1u, 3u}) {
          seed += 3;
          const RandomWeights w(type().type, n_rows, cols, seed, seed % 2, seed % 5);
          const FloatMatrix h = SparseActivations(tokens, n_rows, period, seed + 1);
          const FloatMatrix start = FloatMatrix::Random(tokens, cols, seed + 2);
          FloatMatrix y = Copy(start);
          kernels().accumulate_rows(w.view(), h.view(), 0, cols, ZeroRows::kSkip, y.view());
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t c = 0; c < cols; ++c) {
              const reference::Sum sum =
                  reference::AccumulateColumn(w.view(), h.view().row(t), c, start.view().row_data(t)[c]);
              ASSERT_NEAR(y.view().row_data(t)[c], sum.value, SumTolerance(n_rows, sum.magnitude))
                  << "column " << c << " token " << t << " of " << n_rows << "x" << cols;
            }
          }
        }
      }
    }
  }
}

TEST_P(AccumulateRowsTest, ColumnRangesAndTokensAloneHaveTheSameBits) {
  const int64_t cols = 1024, n_rows = 37, tokens = 6;
  const RandomWeights w(type().type, n_rows, cols, 1);
  const FloatMatrix h = SparseActivations(tokens, n_rows, 2, 2);
  const FloatMatrix start = FloatMatrix::Random(tokens, cols, 3);
  FloatMatrix whole = Copy(start);
  kernels().accumulate_rows(w.view(), h.view(), 0, cols, ZeroRows::kSkip, whole.view());
  FloatMatrix by_columns = Copy(start);
  for (const auto& [begin, end] : {std::pair{512, 1024}, {0, 256}, {256, 512}})
    kernels().accumulate_rows(w.view(), h.view(), begin, end, ZeroRows::kSkip, by_columns.view());
  EXPECT_TRUE(reference::SameBits(by_columns.view(), whole.view()));
  FloatMatrix alone = Copy(start);
  for (int64_t t = 0; t < tokens; ++t)
    kernels().accumulate_rows(w.view(), h.view().Rows(t, 1), 0, cols, ZeroRows::kSkip,
                              alone.view().Rows(t, 1));
  EXPECT_TRUE(reference::SameBits(alone.view(), whole.view()));
  FloatMatrix one_range = Copy(start);
  kernels().accumulate_rows(w.view(), h.view().Rows(0, 1), 256, 512, ZeroRows::kSkip,
                            one_range.view().Rows(0, 1));
  EXPECT_TRUE(reference::SameBits(one_range.view().Rows(0, 1).Columns(256, 256),
                                  whole.view().Rows(0, 1).Columns(256, 256)));
  EXPECT_TRUE(reference::SameBits(one_range.view().Columns(512, 512).Rows(0, 1),
                                  start.view().Columns(512, 512).Rows(0, 1)));
}

TEST_P(AccumulateRowsTest, SilentRowsAreNotRead) {
  // Rows of infinities and NaN: anything decoded from them and added, even times zero, would show.
  const int64_t cols = 256, n_rows = 24;
  const RandomWeights w(type().type, n_rows, cols, 1);
  std::vector<std::byte> data(static_cast<size_t>(n_rows * w.view().row_stride_bytes), std::byte{0xFF});
  const auto active = [](int64_t row) { return row % 5 == 2; };
  for (int64_t r = 0; r < n_rows; ++r)
    if (active(r))
      std::copy_n(w.view().row_data(r), w.view().row_stride_bytes,
                  data.data() + r * w.view().row_stride_bytes);
  WeightView poisoned = w.view();
  poisoned.data = data.data();
  for (const int64_t tokens : {1, 3}) {
    FloatMatrix h = FloatMatrix::Random(tokens, n_rows, 2);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t r = 0; r < n_rows; ++r)
        if (!active(r)) h.view().row_data(t)[r] = 0.0f;
    FloatMatrix expected = FloatMatrix::Random(tokens, cols, 3);
    FloatMatrix y = Copy(expected);
    kernels().accumulate_rows(w.view(), h.view(), 0, cols, ZeroRows::kSkip, expected.view());
    kernels().accumulate_rows(poisoned, h.view(), 0, cols, ZeroRows::kSkip, y.view());
    EXPECT_TRUE(reference::SameBits(y.view(), expected.view())) << tokens;
  }
}

TEST_P(AccumulateRowsTest, ZeroRowsThatAreReadAddNothing) {
  const int64_t cols = 512, n_rows = 21;
  const RandomWeights w(type().type, n_rows, cols, 1);
  const FloatMatrix h = SparseActivations(1, n_rows, 3, 2);
  FloatMatrix skipped = FloatMatrix::Random(1, cols, 3);
  FloatMatrix read = Copy(skipped);
  kernels().accumulate_rows(w.view(), h.view(), 0, cols, ZeroRows::kSkip, skipped.view());
  kernels().accumulate_rows(w.view(), h.view(), 0, cols, ZeroRows::kRead, read.view());
  EXPECT_TRUE(reference::SameBits(read.view(), skipped.view()));
  // That they are read at all shows where they hold NaN.
  const std::vector<std::byte> poison(static_cast<size_t>(w.view().row_stride_bytes), std::byte{0xFF});
  const float zero = 0.0f;
  kernels().accumulate_rows({poison.data(), type().type, 1, cols, w.view().row_stride_bytes},
                            {&zero, 1, 1, 1}, 0, cols, ZeroRows::kRead, read.view());
  for (const float value : read.view().row(0)) ASSERT_TRUE(std::isnan(value));
}

TEST_P(AccumulateRowsTest, ARowThatOnlyOneTokenNeedsLeavesTheOthersAlone) {
  const int64_t cols = 256;
  const RandomWeights w(type().type, 2, cols, 1);
  std::vector<std::byte> data(static_cast<size_t>(2 * w.view().row_stride_bytes), std::byte{0xFF});
  WeightView poisoned = w.view();
  poisoned.data = data.data();
  FloatMatrix h = FloatMatrix::Random(2, 2, 2);
  h.view().row(1)[0] = h.view().row(1)[1] = 0.0f;
  FloatMatrix y = FloatMatrix::Random(2, cols, 3);
  const FloatMatrix before = Copy(y);
  kernels().accumulate_rows(poisoned, h.view(), 0, cols, ZeroRows::kSkip, y.view());
  EXPECT_TRUE(reference::SameBits(y.view().Rows(1, 1), before.view().Rows(1, 1)));
  EXPECT_FALSE(reference::SameBits(y.view().Rows(0, 1), before.view().Rows(0, 1)));
}

}  // namespace
}  // namespace thermocline
