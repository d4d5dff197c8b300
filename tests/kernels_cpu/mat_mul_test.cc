// Products of every element type on every instruction set: values, ragged shapes, batch invariance.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;

class MatMulTest : public IsaTypeTest {
 protected:
  // Widths that leave every kind of rest: of vectors, of groups of 32, of chunks.
  std::vector<int64_t> Widths() const {
    const int64_t block = type().block_elements;
    if (block == 1) return {1, 3, 7, 16, 31, 33, 63, 100, 511, 513, 1061};
    if (block == 32) return {32, 64, 96, 512, 544, 1056};
    return {256, 512, 768, 1280};
  }
};
INSTANTIATE_TEST_SUITE_P(All, MatMulTest, EveryIsaAndType(), IsaTypeName);

void ExpectProducts(const WeightView& w, MatrixView<const float> x, MatrixView<const float> y) {
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t r = 0; r < w.rows; ++r) {
      const reference::Sum sum = reference::Dot(w, r, x.row(t));
      ASSERT_NEAR(y.row_data(t)[r], sum.value, SumTolerance(w.cols, sum.magnitude))
          << "row " << r << " token " << t << " of " << w.rows << "x" << w.cols << ", " << x.rows
          << " tokens";
    }
  }
}

TEST_P(MatMulTest, EqualsTheReferenceOnRaggedShapes) {
  uint32_t seed = 1;
  for (const int64_t cols : Widths()) {
    for (const int64_t rows : {1, 2, 5, 8, 11}) {
      for (const int64_t tokens : {1, 2, 7}) {
        seed += 2;
        const RandomWeights w(type().type, rows, cols, seed, seed / 2 % 2, seed % 3);
        const FloatMatrix x = FloatMatrix::Random(tokens, cols, seed + 1, seed % 5);
        FloatMatrix y = FloatMatrix::Poisoned(tokens, rows, seed % 4);
        kernels().mat_mul(w.view(), x.view(), y.view());
        ExpectProducts(w.view(), x.view(), y.view());
      }
    }
  }
}

TEST_P(MatMulTest, ABatchHasTheBitsOfItsTokensAndARowTheBitsOfItsMatrix) {
  const int64_t cols = Widths().back(), rows = 13;
  const RandomWeights w(type().type, rows, cols, 1);
  const FloatMatrix x = FloatMatrix::Random(17, cols, 2);
  FloatMatrix batch = FloatMatrix::Poisoned(17, rows);
  kernels().mat_mul(w.view(), x.view(), batch.view());
  FloatMatrix alone = FloatMatrix::Poisoned(17, rows);
  for (int64_t t = 0; t < 17; ++t) kernels().mat_mul(w.view(), x.view().Rows(t, 1), alone.view().Rows(t, 1));
  EXPECT_TRUE(reference::SameBits(batch.view(), alone.view()));
  for (const int64_t tokens : {1, 17}) {
    FloatMatrix by_row = FloatMatrix::Poisoned(tokens, rows);
    for (int64_t r = 0; r < rows; ++r)
      kernels().mat_mul(w.view().Rows(r, 1), x.view().Rows(0, tokens), by_row.view().Columns(r, 1));
    EXPECT_TRUE(reference::SameBits(by_row.view(), batch.view().Rows(0, tokens))) << tokens;
  }
}

TEST_P(MatMulTest, EveryGroupingOfTokensHasTheSameBits) {
  const int64_t cols = Widths()[Widths().size() - 2], rows = 4;
  const RandomWeights w(type().type, rows, cols, 1);
  const FloatMatrix x = FloatMatrix::Random(14, cols, 2);
  FloatMatrix whole = FloatMatrix::Poisoned(14, rows);
  kernels().mat_mul(w.view(), x.view(), whole.view());
  for (int64_t group = 2; group < 14; ++group) {
    FloatMatrix grouped = FloatMatrix::Poisoned(14, rows);
    for (int64_t t = 0; t < 14; t += group) {
      const int64_t tokens = std::min(group, 14 - t);
      kernels().mat_mul(w.view(), x.view().Rows(t, tokens), grouped.view().Rows(t, tokens));
    }
    EXPECT_TRUE(reference::SameBits(grouped.view(), whole.view())) << group;
  }
}

TEST_P(MatMulTest, NotANumberStaysVisible) {
  const int64_t cols = Widths().back();
  const RandomWeights w(type().type, 5, cols, 1);
  for (const int64_t tokens : {1, 3}) {
    FloatMatrix x = FloatMatrix::Random(tokens, cols, 2);
    x.view().row(tokens - 1).back() = NAN;
    FloatMatrix y = FloatMatrix::Random(tokens, 5, 3);
    kernels().mat_mul(w.view(), x.view(), y.view());
    for (const float value : y.view().row(tokens - 1)) EXPECT_TRUE(std::isnan(value));
  }
}

}  // namespace
}  // namespace thermocline
