// Products of panels: packing, rounded activations, values, and bits that no companion and no instruction set
// changes.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/half.h"
#include "core/thread_team.h"
#include "kernels_cpu/parallel.h"
#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;

// What 16 bits make of a row in blocks of 32.
std::vector<float> RoundedToInt16(std::span<const float> row) {
  std::vector<float> rounded;
  for (size_t b = 0; b < row.size(); b += 32) {
    float peak = 0.0f;
    for (const float value : row.subspan(b, 32)) peak = std::max(peak, std::abs(value));
    const float exact = peak * (1.0f / 8191.0f);
    float scale = BFloat16ToFloat(FloatToBFloat16(exact));
    if (scale < exact) scale = BFloat16ToFloat(static_cast<uint16_t>(FloatToBFloat16(exact) + 1));
    for (const float value : row.subspan(b, 32))
      rounded.push_back(peak == 0.0f ? 0.0f : std::nearbyint(value * (1.0f / scale)) * scale);
  }
  return rounded;
}

// Activations in 8 or 16 bits, as a type's panels take them, with their memory.
class Rounded {
 public:
  Rounded(const KernelTable& kernels, MatrixView<const float> x, ElementType type = ElementType::kQ8_0)
      : int16_(TakesInt16(type)),
        values_(static_cast<size_t>(x.rows * x.cols), 99),
        blocks_(static_cast<size_t>(x.rows * x.cols / kActivationBlock)),
        int16_values_(values_.size(), 99),
        scales_(blocks_.size(), 99.0f),
        rows_(x.rows),
        cols_(x.cols) {
    kernels.quantize_activations(x, {values_.data(), rows_, cols_, cols_},
                                 {blocks_.data(), rows_, n_blocks(), n_blocks()});
    kernels.quantize_int16(x, {int16_values_.data(), rows_, cols_, cols_},
                           {scales_.data(), rows_, n_blocks(), n_blocks()});
  }
  QuantizedActivations view() const {
    return {{values_.data(), rows_, cols_, cols_}, {blocks_.data(), rows_, n_blocks(), n_blocks()}};
  }
  Int16Activations int16_view() const {
    return {{int16_values_.data(), rows_, cols_, cols_}, {scales_.data(), rows_, n_blocks(), n_blocks()}};
  }
  // What the activation became.
  float Value(int64_t t, int64_t c) const {
    const int64_t b = c / kActivationBlock;
    if (int16_)
      return int16_view().scales.row_data(t)[b] * static_cast<float>(int16_view().values.row_data(t)[c]);
    return view().blocks.row_data(t)[b].scale * static_cast<float>(view().values.row_data(t)[c]);
  }
  // Tokens [begin, begin + y.rows) times w.
  void Multiply(const KernelTable& kernels, const PackedView& w, int64_t begin, MatrixView<float> y) const {
    if (int16_) {
      kernels.mat_mul_packed_int16(w, int16_view().Tokens(begin, y.rows), y);
    } else {
      kernels.mat_mul_packed(w, view().Tokens(begin, y.rows), y);
    }
  }

 private:
  int64_t n_blocks() const { return cols_ / kActivationBlock; }

  bool int16_;
  std::vector<int8_t> values_;
  std::vector<ActivationBlock> blocks_;
  std::vector<int16_t> int16_values_;
  std::vector<float> scales_;
  int64_t rows_, cols_;
};

PackedMatrix Pack(const KernelTable& kernels, const WeightView& w) {
  const auto team = *ThreadTeam::Create(1);
  return *PackedMatrix::Create({.team = team.get(), .kernels = &kernels}, w);
}

// ---- Activations

class QuantizeActivationsTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, QuantizeActivationsTest, EveryIsa(), IsaName);

TEST_P(QuantizeActivationsTest, RoundsToTheNearestOf255StepsOfEachBlock) {
  FloatMatrix x = FloatMatrix::Random(3, 96, 7, 5);
  for (int64_t c = 32; c < 64; ++c) x.view().row_data(1)[c] = 0.0f;
  const Rounded rounded(kernels(), x.view());
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t b = 0; b < 3; ++b) {
      const ActivationBlock& block = rounded.view().blocks.row_data(t)[b];
      float peak = 0.0f;
      int32_t sum = 0;
      for (int64_t c = 32 * b; c < 32 * b + 32; ++c) {
        peak = std::max(peak, std::abs(x.view().row_data(t)[c]));
        sum += rounded.view().values.row_data(t)[c];
      }
      EXPECT_EQ(block.scale, peak / 127.0f);
      EXPECT_EQ(block.minus_8_sum, -8 * sum);
      EXPECT_EQ(block.minus_128_sum, -128 * sum);
      EXPECT_EQ(block.scaled_sum, block.scale * static_cast<float>(sum));
      for (int64_t c = 32 * b; c < 32 * b + 32; ++c)
        EXPECT_NEAR(rounded.Value(t, c), x.view().row_data(t)[c], 0.5001f * block.scale);
    }
  }
}

TEST_P(QuantizeActivationsTest, WhatIsNotFiniteStaysVisibleInItsBlockOnly) {
  for (const float strange : {NAN, INFINITY, -INFINITY}) {
    FloatMatrix x = FloatMatrix::Random(1, 64, 3);
    x.view().row_data(0)[40] = strange;
    const Rounded rounded(kernels(), x.view());
    EXPECT_TRUE(std::isfinite(rounded.view().blocks.row_data(0)[0].scale));
    EXPECT_TRUE(std::isnan(rounded.view().blocks.row_data(0)[1].scale));
    EXPECT_TRUE(std::isnan(rounded.view().blocks.row_data(0)[1].scaled_sum));
  }
}

TEST_P(QuantizeActivationsTest, TinyBlocksAreZeros) {
  FloatMatrix x = FloatMatrix::Random(1, 32, 3);
  for (float& value : x.view().row(0)) value *= 0x1p-130f;
  const Rounded rounded(kernels(), x.view());
  for (const int8_t value : rounded.view().values.row(0)) EXPECT_EQ(value, 0);
}

TEST_P(QuantizeActivationsTest, RoundsToTheNearestOf16383StepsOfEachBlock) {
  FloatMatrix x = FloatMatrix::Random(3, 96, 7, 5);
  for (int64_t c = 32; c < 64; ++c) x.view().row_data(1)[c] = 0.0f;
  const Rounded rounded(kernels(), x.view(), ElementType::kF16);
  for (int64_t t = 0; t < 3; ++t) {
    const std::vector<float> expected = RoundedToInt16(x.view().row(t));
    for (int64_t c = 0; c < 96; ++c) {
      EXPECT_EQ(rounded.Value(t, c), expected[static_cast<size_t>(c)]);
      EXPECT_LE(std::abs(rounded.int16_view().values.row_data(t)[c]), kInt16Peak);
    }
  }
}

TEST_P(QuantizeActivationsTest, WhatIsNotFiniteStaysVisibleIn16BitsToo) {
  for (const float strange : {NAN, INFINITY, -INFINITY}) {
    FloatMatrix x = FloatMatrix::Random(1, 64, 3);
    x.view().row_data(0)[40] = strange;
    const Rounded rounded(kernels(), x.view(), ElementType::kF16);
    EXPECT_TRUE(std::isfinite(rounded.Value(0, 5)));
    EXPECT_TRUE(std::isnan(rounded.Value(0, 33)));
  }
}

TEST_P(QuantizeActivationsTest, TheLargestSumsOf16BitsFit) {
  FloatMatrix x = FloatMatrix::Random(2, 32, 3);
  std::ranges::fill(x.view().row(0), 3.0f);
  std::ranges::fill(x.view().row(1), -3.0f);
  const std::vector<uint16_t> halves(17 * 32, FloatToHalf(2.0f));
  const WeightView w{reinterpret_cast<const std::byte*>(halves.data()), ElementType::kF16, 17, 32, 64};
  const Rounded rounded(kernels(), x.view(), ElementType::kF16);
  FloatMatrix y = FloatMatrix::Poisoned(2, 17);
  rounded.Multiply(kernels(), Pack(kernels(), w).view(), 0, y.view());
  for (const float value : y.view().row(0)) EXPECT_NEAR(value, 192.0f, 192.0f / kInt16Peak);
  for (const float value : y.view().row(1)) EXPECT_NEAR(value, -192.0f, 192.0f / kInt16Peak);
}

// ---- Products

class MatMulPackedTest : public IsaTypeTest {
 protected:
  int64_t Unit() const { return std::max(type().block_elements, kActivationBlock); }
  bool int16() const { return TakesInt16(type().type); }
  PackedMatrix Packed(const WeightView& w) const { return Pack(kernels(), w); }

  // Row r of w as panels hold it.
  std::vector<float> Row(const WeightView& w, int64_t r) const {
    std::vector<float> row(static_cast<size_t>(w.cols));
    kernels().dequantize(w.type, w.row_data(r), w.cols, row.data());
    return int16() ? RoundedToInt16(row) : row;
  }
};
std::vector<ElementTypeInfo> TypesWithPanels() {
  std::vector<ElementTypeInfo> types;
  for (const ElementTypeInfo& type : AllElementTypes())
    if (HasPanels(type.type, type.block_elements * 32)) types.push_back(type);
  return types;
}
INSTANTIATE_TEST_SUITE_P(All, MatMulPackedTest,
                         testing::Combine(EveryIsa(), testing::ValuesIn(TypesWithPanels())), IsaTypeName);

TEST_P(MatMulPackedTest, EqualsTheReferenceOverTheRoundedActivations) {
  uint32_t seed = 1;
  for (const int64_t units : {1, 3, 10}) {
    for (const int64_t rows : {1, 15, 16, 17, 50}) {
      for (const int64_t tokens : {1, 2, 3, 5, 7, 13}) {
        seed += 2;
        const int64_t cols = units * Unit();
        const RandomWeights w(type().type, rows, cols, seed, seed / 2 % 2, seed % 3);
        const FloatMatrix x = FloatMatrix::Random(tokens, cols, seed + 1, seed % 5);
        const Rounded rounded(kernels(), x.view(), type().type);
        const PackedMatrix packed = Packed(w.view());
        FloatMatrix y = FloatMatrix::Poisoned(tokens, rows, seed % 4);
        rounded.Multiply(kernels(), packed.view(), 0, y.view());
        for (int64_t r = 0; r < rows; ++r) {
          const std::vector<float> row = Row(w.view(), r);
          for (int64_t t = 0; t < tokens; ++t) {
            double value = 0.0, magnitude = 0.0;
            for (int64_t c = 0; c < cols; ++c) {
              const double term = double{row[static_cast<size_t>(c)]} * double{rounded.Value(t, c)};
              value += term;
              magnitude += std::abs(term);
            }
            ASSERT_NEAR(y.view().row_data(t)[r], value, SumTolerance(cols, magnitude))
                << "row " << r << " token " << t << " of " << rows << "x" << cols << ", " << tokens;
          }
        }
      }
    }
  }
}

TEST_P(MatMulPackedTest, ABatchHasTheBitsOfItsTokensAndAPanelThoseOfItsMatrix) {
  const int64_t cols = 3 * Unit(), rows = 83;
  const RandomWeights w(type().type, rows, cols, 1);
  const FloatMatrix x = FloatMatrix::Random(17, cols, 2);
  const Rounded rounded(kernels(), x.view(), type().type);
  const PackedMatrix packed = Packed(w.view());
  FloatMatrix whole = FloatMatrix::Poisoned(17, rows);
  rounded.Multiply(kernels(), packed.view(), 0, whole.view());
  FloatMatrix alone = FloatMatrix::Poisoned(17, rows);
  for (int64_t t = 0; t < 17; ++t) rounded.Multiply(kernels(), packed.view(), t, alone.view().Rows(t, 1));
  EXPECT_TRUE(reference::SameBits(whole.view(), alone.view()));
  FloatMatrix by_panel = FloatMatrix::Poisoned(17, rows);
  for (int64_t p = 0; p < packed.view().panels(); ++p) {
    const PackedView panel = packed.view().Panels(p, 1);
    rounded.Multiply(kernels(), panel, 0, by_panel.view().Columns(p * kPanelRows, panel.rows));
  }
  EXPECT_TRUE(reference::SameBits(whole.view(), by_panel.view()));
}

// Sets without multiply-add round once more; the others agree bit for bit.
TEST_P(MatMulPackedTest, InstructionSetsWithMultiplyAddAgreeBitForBit) {
  const std::string_view isa = std::get<0>(GetParam());
  if (isa == "scalar" || isa == "sse4") return;
  const int64_t cols = 4 * Unit(), rows = 40;
  const RandomWeights w(type().type, rows, cols, 5);
  const FloatMatrix x = FloatMatrix::Random(9, cols, 6);
  const PackedMatrix packed = Packed(w.view());
  const auto product = [&](const KernelTable& table) {
    const Rounded rounded(table, x.view(), type().type);
    FloatMatrix y = FloatMatrix::Poisoned(9, rows);
    rounded.Multiply(table, packed.view(), 0, y.view());
    return y;
  };
  EXPECT_TRUE(reference::SameBits(product(kernels()).view(), product(BestKernels()).view()));
}

TEST_P(MatMulPackedTest, TheTeamAddsNothing) {
  const int64_t cols = 2 * Unit(), rows = 1000;
  const RandomWeights w(type().type, rows, cols, 8);
  const FloatMatrix x = FloatMatrix::Random(140, cols, 9);
  const PackedMatrix packed = Packed(w.view());
  const Rounded rounded(kernels(), x.view(), type().type);
  FloatMatrix expected = FloatMatrix::Poisoned(140, rows);
  rounded.Multiply(kernels(), packed.view(), 0, expected.view());
  for (const int threads : {1, 3}) {
    const auto team = *ThreadTeam::Create(threads);
    const CpuContext context{.team = team.get(), .kernels = &kernels()};
    FloatMatrix y = FloatMatrix::Poisoned(140, rows);
    MatMul(context, packed.view(), x.view(), y.view());
    EXPECT_TRUE(reference::SameBits(y.view(), expected.view())) << threads;
  }
}

TEST_P(MatMulPackedTest, ProductsOfOneInputHaveTheBitsOfEachAlone) {
  const int64_t cols = 2 * Unit();
  const auto team = *ThreadTeam::Create(3);
  const CpuContext context{.team = team.get(), .kernels = &kernels()};
  const RandomWeights first(type().type, 200, cols, 13), second(type().type, 17, cols, 14);
  const RandomWeights third(type().type, 83, cols, 15);
  const WeightView views[] = {first.view(), second.view(), third.view()};
  const FloatMatrix x = FloatMatrix::Random(11, cols, 16);
  for (const bool last_is_packed : {true, false}) {
    HeldMatrix held[3];
    std::vector<FloatMatrix> expected, together;
    std::vector<HeldProduct> products;
    for (size_t i = 0; i < 3; ++i) {
      held[i].rows = views[i];
      if (i < 2 || last_is_packed) held[i].packed = Packed(views[i]);
      expected.push_back(FloatMatrix::Poisoned(11, views[i].rows));
      together.push_back(FloatMatrix::Poisoned(11, views[i].rows, 5));
      const HeldProduct alone{&held[i], expected[i].view()};
      MatMul(context, {&alone, 1}, x.view());
      products.push_back({&held[i], together[i].view()});
    }
    MatMul(context, products, x.view());
    for (size_t i = 0; i < 3; ++i)
      EXPECT_TRUE(reference::SameBits(together[i].view(), expected[i].view())) << i << last_is_packed;
  }
}

TEST_P(MatMulPackedTest, PackingWhileMultiplyingChangesNothing) {
  const int64_t cols = 2 * Unit(), rows = 1000;
  const RandomWeights w(type().type, rows, cols, 11);
  const WeightView odd = w.view().Rows(0, 999);
  const PackedMatrix packed = Packed(odd);
  const auto team = *ThreadTeam::Create(3);
  const CpuContext context{.team = team.get(), .kernels = &kernels()};
  for (const int64_t n_tokens : {1, 140}) {
    const FloatMatrix x = FloatMatrix::Random(n_tokens, cols, 12);
    FloatMatrix expected = FloatMatrix::Poisoned(n_tokens, 999), y = FloatMatrix::Poisoned(n_tokens, 999);
    MatMul(context, packed.view(), x.view(), expected.view());
    MatMulPacking(context, odd, x.view(), y.view());
    EXPECT_TRUE(reference::SameBits(y.view(), expected.view())) << n_tokens;
  }
}

}  // namespace
}  // namespace thermocline
