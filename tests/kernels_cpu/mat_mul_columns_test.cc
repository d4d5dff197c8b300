// Products over the columns or rows that are needed: values, what is not read, and bits that no companion,
// no column beside and no thread changes.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/thread_team.h"
#include "kernels_cpu/parallel.h"
#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;

// About a third of the activations are not zero; no token needs every fourth group of 32.
FloatMatrix Sparse(int64_t tokens, int64_t cols, uint32_t seed) {
  FloatMatrix x = FloatMatrix::Random(tokens, cols, seed, seed % 3);
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t c = 0; c < cols; ++c)
      if ((c + t) % 3 != 0 || c / 32 % 4 == 1) x.view().row_data(t)[c] = 0.0f;
  }
  return x;
}

// What products of quantised weights see of x.
FloatMatrix Rounded(const KernelTable& kernels, MatrixView<const float> x) {
  const int64_t n_blocks = x.cols / kActivationBlock;
  std::vector<int8_t> values(static_cast<size_t>(x.rows * x.cols));
  std::vector<ActivationBlock> blocks(static_cast<size_t>(x.rows * n_blocks));
  kernels.quantize_activations(x, {values.data(), x.rows, x.cols, x.cols},
                               {blocks.data(), x.rows, n_blocks, n_blocks});
  FloatMatrix rounded = FloatMatrix::Poisoned(x.rows, x.cols);
  for (int64_t t = 0; t < x.rows; ++t) {
    for (int64_t c = 0; c < x.cols; ++c) {
      rounded.view().row_data(t)[c] = blocks[static_cast<size_t>(t * n_blocks + c / kActivationBlock)].scale *
                                      static_cast<float>(values[static_cast<size_t>(t * x.cols + c)]);
    }
  }
  return rounded;
}

class MatMulColumnsTest : public IsaTypeTest {
 protected:
  MatMulColumnsTest() : team_(*ThreadTeam::Create(1)) {}
  CpuContext context() const { return {.team = team_.get(), .kernels = &kernels()}; }
  // Widths that are whole blocks of the type, and ragged ones of plain floats.
  int64_t Cols() const {
    return type().quantized() ? std::max<int64_t>(256, type().block_elements) + type().block_elements : 301;
  }
  ColumnMatrix Pack(const WeightView& w) const { return *ColumnMatrix::Create(*team_, w); }
  FloatMatrix Product(const ColumnMatrix& w, MatrixView<const float> x) const {
    FloatMatrix y = FloatMatrix::Poisoned(x.rows, w.view().rows, 3);
    MatMulColumns(context(), w.view(), x, y.view());
    return y;
  }

 private:
  std::unique_ptr<ThreadTeam> team_;
};
INSTANTIATE_TEST_SUITE_P(All, MatMulColumnsTest, EveryIsaAndType(), IsaTypeName);

TEST_P(MatMulColumnsTest, EqualsTheReference) {
  uint32_t seed = 1;
  // Rows around a vector, a chunk and several.
  for (const int64_t rows : {1, 127, 130, 700}) {
    for (const int64_t tokens : {1, 9}) {
      seed += 2;
      const int64_t cols = Cols();
      const RandomWeights w(type().type, rows, cols, seed, seed / 2 % 2, seed % 3);
      const FloatMatrix x = Sparse(tokens, cols, seed + 1);
      const FloatMatrix y = Product(Pack(w.view()), x.view());
      const FloatMatrix seen =
          type().quantized() ? Rounded(kernels(), x.view()) : Sparse(tokens, cols, seed + 1);
      for (int64_t r = 0; r < rows; ++r) {
        const std::vector<float> row = reference::Dequantize(type().type, w.view().row_data(r), cols);
        for (int64_t t = 0; t < tokens; ++t) {
          double value = 0.0, magnitude = 0.0;
          for (int64_t c = 0; c < cols; ++c) {
            const double term = double{row[static_cast<size_t>(c)]} * double{seen.view().row_data(t)[c]};
            value += term;
            magnitude += std::abs(term);
          }
          ASSERT_NEAR(y.view().row_data(t)[r], value, SumTolerance(2 * cols, 4 * magnitude))
              << "row " << r << " token " << t << " of " << rows << ", " << tokens;
        }
      }
    }
  }
}

// Of few columns, which are one range: their sums are those of panels, whose further terms are zeros.
TEST_P(MatMulColumnsTest, HasTheBitsOfThePackedProduct) {
  if (!HasPanels(type().type, type().block_elements) || TakesInt16(type().type)) return;
  const RandomWeights w(type().type, 650, 256, 3);
  const PackedMatrix packed = *PackedMatrix::Create(context(), w.view());
  for (const FloatMatrix& x : {Sparse(3, 256, 4), FloatMatrix::Random(3, 256, 5)}) {
    FloatMatrix expected = FloatMatrix::Poisoned(3, 650);
    MatMul(context(), packed.view(), x.view(), expected.view());
    EXPECT_TRUE(reference::SameBits(Product(Pack(w.view()), x.view()).view(), expected.view()));
  }
}

TEST_P(MatMulColumnsTest, CompanionsChangeNoBits) {
  const RandomWeights w(type().type, 1100, Cols(), 6);
  const FloatMatrix x = Sparse(11, Cols(), 7);
  const ColumnMatrix columns = Pack(w.view());
  const FloatMatrix batch = Product(columns, x.view());
  for (int64_t t = 0; t < 11; ++t)
    EXPECT_TRUE(reference::SameBits(Product(columns, x.view().Rows(t, 1)).view(), batch.view().Rows(t, 1)));
}

// The second token needs what is not finite, the first does not.
TEST_P(MatMulColumnsTest, WhatATokenDoesNotNeedDoesNotReachIt) {
  const int64_t cols = 2 * std::max<int64_t>(32, type().block_elements), rows = 140;
  const RandomWeights w(type().type, rows, cols, 8);
  // 0xFF bytes: NaN as floats and as scales of the first block of a row.
  const int64_t bytes = type().block_bytes;
  for (int64_t r = 0; r < rows; ++r)
    std::memset(const_cast<std::byte*>(w.view().row_data(r)), 0xFF, static_cast<size_t>(bytes));
  FloatMatrix x = FloatMatrix::Random(2, cols, 9);
  for (int64_t c = 0; c < type().block_elements; ++c) x.view().row_data(0)[c] = 0.0f;
  const FloatMatrix y = Product(Pack(w.view()), x.view());
  for (int64_t r = 0; r < rows; ++r) {
    EXPECT_TRUE(std::isfinite(y.view().row_data(0)[r])) << r;
    EXPECT_TRUE(std::isnan(y.view().row_data(1)[r])) << r;
  }
}

TEST_P(MatMulColumnsTest, NothingNeededIsZeroAndNaNReachesEveryRowOfItsToken) {
  const RandomWeights w(type().type, 200, Cols(), 10);
  FloatMatrix x = Sparse(3, Cols(), 11);
  std::ranges::fill(x.view().row(0), 0.0f);
  x.view().row_data(2)[40] = std::numeric_limits<float>::quiet_NaN();
  const FloatMatrix y = Product(Pack(w.view()), x.view());
  for (int64_t r = 0; r < 200; ++r) {
    EXPECT_EQ(y.view().row_data(0)[r], 0.0f);
    EXPECT_TRUE(std::isfinite(y.view().row_data(1)[r]));
    EXPECT_TRUE(std::isnan(y.view().row_data(2)[r])) << r;
  }
}

// Several ranges of columns, so many rows that columns are padded further, both ragged.
TEST(MatMulColumns, TeamsChangeNoBits) {
  for (const ElementType type :
       {ElementType::kQ4_0, ElementType::kQ4_K, ElementType::kQ6_K, ElementType::kF16}) {
    const int64_t rows = 2200, cols = type == ElementType::kF16 ? 1301 : 1280;
    const RandomWeights w(type, rows, cols, 12);
    const FloatMatrix x = Sparse(2, cols, 13);
    FloatMatrix expected = FloatMatrix::Poisoned(2, rows);
    for (const int threads : {1, 2, 5}) {
      const auto team = *ThreadTeam::Create(threads);
      const ColumnMatrix columns = *ColumnMatrix::Create(*team, w.view());
      FloatMatrix y = FloatMatrix::Poisoned(2, rows);
      MatMulColumns({.team = team.get(), .kernels = &BestKernels()}, columns.view(), x.view(), y.view());
      if (threads == 1) {
        expected = std::move(y);
      } else {
        EXPECT_TRUE(reference::SameBits(y.view(), expected.view())) << threads;
      }
    }
    const std::vector<float> row = reference::Dequantize(type, w.view().row_data(rows - 1), cols);
    const FloatMatrix seen =
        InfoOf(type).quantized() ? Rounded(BestKernels(), x.view()) : Sparse(2, cols, 13);
    double value = 0.0, magnitude = 0.0;
    for (int64_t c = 0; c < cols; ++c) {
      const double term = double{row[static_cast<size_t>(c)]} * double{seen.view().row_data(1)[c]};
      value += term;
      magnitude += std::abs(term);
    }
    EXPECT_NEAR(expected.view().row_data(1)[rows - 1], value, SumTolerance(2 * cols, 4 * magnitude));
  }
}

TEST(ColumnMatrix, BytesOfAProductAreScalesAndTheNeededColumns) {
  const auto team = *ThreadTeam::Create(1);
  const RandomWeights w(ElementType::kQ4_0, 256, 64, 1);
  const ColumnMatrix columns = *ColumnMatrix::Create(*team, w.view());
  EXPECT_EQ(ColumnBytes(columns.view(), 64), w.view().size_bytes());
  EXPECT_EQ(ColumnBytes(columns.view(), 64), columns.view().size_bytes());
  EXPECT_EQ(ColumnBytes(columns.view(), 10), 256 * (2 * 2 + 10 / 2));
  EXPECT_EQ(ColumnBytes(columns.view(), 0), 256 * 2 * 2);
}

// ---- Selection

class SelectColumnsTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, SelectColumnsTest, EveryIsa(), IsaName);

TEST_P(SelectColumnsTest, ZeroesWhatIsBelowAndListsWhatAnyTokenNeeds) {
  const auto team = *ThreadTeam::Create(1);
  const CpuContext context{.team = team.get(), .kernels = &kernels()};
  for (const int64_t cols : {1, 15, 16, 33, 100}) {
    for (const int64_t tokens : {1, 3, 16}) {
      FloatMatrix x = FloatMatrix::Random(tokens, cols, 3, 2);
      x.view().row_data(0)[cols / 2] = std::numeric_limits<float>::quiet_NaN();
      x.view().row_data(tokens - 1)[0] = -0.0f;
      for (const float threshold : {0.0f, 0.8f, 5.0f}) {  // in this order: each leaves less
        const FloatMatrix before = [&] {
          FloatMatrix copy = FloatMatrix::Poisoned(tokens, cols);
          for (int64_t t = 0; t < tokens; ++t) std::ranges::copy(x.view().row(t), copy.view().row_data(t));
          return copy;
        }();
        std::vector<uint32_t> columns(static_cast<size_t>(cols), 99), expected;
        columns.resize(static_cast<size_t>(SelectColumns(context, x.view(), threshold, columns)));
        for (int64_t c = 0; c < cols; ++c) {
          bool needed = false;
          for (int64_t t = 0; t < tokens; ++t) {
            const float value = before.view().row_data(t)[c];
            const float kept = std::abs(value) < threshold ? 0.0f : value;
            EXPECT_TRUE(reference::SameBits(std::span<const float>(&kept, 1),
                                            x.view().row(t).subspan(static_cast<size_t>(c), 1)))
                << t << ", " << c;
            needed |= kept != 0.0f;
          }
          if (needed) expected.push_back(static_cast<uint32_t>(c));
        }
        EXPECT_EQ(columns, expected) << cols << " columns, " << tokens << " tokens, " << threshold;
      }
    }
  }
}

// ---- Rows

class MatMulRowsTest : public IsaTypeTest {};
INSTANTIATE_TEST_SUITE_P(All, MatMulRowsTest, EveryIsaAndType(), IsaTypeName);

TEST_P(MatMulRowsTest, ListedRowsHaveTheBitsOfTheWholeProductAndTheOthersAreZero) {
  const int64_t rows = 300, cols = type().quantized() ? 2 * type().block_elements : 45;
  const RandomWeights w(type().type, rows, cols, 12, 1, 2);
  std::vector<uint32_t> some, every;
  for (uint32_t r = 0; r < 300; ++r) {
    every.push_back(r);
    if (r % 5 < 2) some.push_back(r);
  }
  for (const int threads : {1, 3}) {
    const auto team = *ThreadTeam::Create(threads);
    const CpuContext context{.team = team.get(), .kernels = &kernels()};
    for (const int64_t tokens : {1, 2, 16}) {
      const FloatMatrix x = FloatMatrix::Random(tokens, cols, 13);
      FloatMatrix whole = FloatMatrix::Poisoned(tokens, rows);
      MatMul(context, w.view(), x.view(), whole.view());
      for (const std::vector<uint32_t>& list : {some, every, {}, {299}}) {
        FloatMatrix y = FloatMatrix::Poisoned(tokens, rows);
        MatMulRows(context, w.view(), x.view(), list, y.view());
        FloatMatrix expected = FloatMatrix::Poisoned(tokens, rows);
        for (int64_t t = 0; t < tokens; ++t) {
          std::ranges::fill(expected.view().row(t), 0.0f);
          for (const uint32_t r : list) expected.view().row_data(t)[r] = whole.view().row_data(t)[r];
        }
        EXPECT_TRUE(reference::SameBits(y.view(), expected.view())) << tokens << ", " << list.size();
      }
    }
  }
}

}  // namespace
}  // namespace thermocline
