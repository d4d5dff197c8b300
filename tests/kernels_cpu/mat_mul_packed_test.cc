// Products of panels: packing, 8-bit activations, values, and bits that no companion and no instruction set
// changes.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
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

// Activations in 8 bits, with their memory.
class Rounded {
 public:
  Rounded(const KernelTable& kernels, MatrixView<const float> x)
      : values_(static_cast<size_t>(x.rows * x.cols), 99),
        blocks_(static_cast<size_t>(x.rows * x.cols / kActivationBlock)),
        rows_(x.rows),
        cols_(x.cols) {
    kernels.quantize_activations(x, {values_.data(), rows_, cols_, cols_},
                                 {blocks_.data(), rows_, cols_ / kActivationBlock, cols_ / kActivationBlock});
  }
  QuantizedActivations view() const {
    const int64_t n_blocks = cols_ / kActivationBlock;
    return {{values_.data(), rows_, cols_, cols_}, {blocks_.data(), rows_, n_blocks, n_blocks}};
  }
  // What the activation became.
  float Value(int64_t t, int64_t c) const {
    return view().blocks.row_data(t)[c / kActivationBlock].scale *
           static_cast<float>(view().values.row_data(t)[c]);
  }

 private:
  std::vector<int8_t> values_;
  std::vector<ActivationBlock> blocks_;
  int64_t rows_, cols_;
};

PackedMatrix Pack(const WeightView& w) {
  const auto team = *ThreadTeam::Create(1);
  return *PackedMatrix::Create(*team, w);
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

// ---- Products

class MatMulPackedTest : public IsaTypeTest {
 protected:
  int64_t Unit() const { return type().block_elements; }
};
std::vector<ElementTypeInfo> TypesWithPanels() {
  std::vector<ElementTypeInfo> types;
  for (const ElementTypeInfo& type : AllElementTypes())
    if (HasPanels(type.type)) types.push_back(type);
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
        const Rounded rounded(kernels(), x.view());
        const PackedMatrix packed = Pack(w.view());
        FloatMatrix y = FloatMatrix::Poisoned(tokens, rows, seed % 4);
        kernels().mat_mul_packed(packed.view(), rounded.view(), y.view());
        std::vector<float> in(static_cast<size_t>(cols));
        for (int64_t t = 0; t < tokens; ++t) {
          for (int64_t c = 0; c < cols; ++c) in[static_cast<size_t>(c)] = rounded.Value(t, c);
          for (int64_t r = 0; r < rows; ++r) {
            const reference::Sum sum = reference::Dot(w.view(), r, in);
            ASSERT_NEAR(y.view().row_data(t)[r], sum.value, SumTolerance(cols, sum.magnitude))
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
  const Rounded rounded(kernels(), x.view());
  const PackedMatrix packed = Pack(w.view());
  FloatMatrix whole = FloatMatrix::Poisoned(17, rows);
  kernels().mat_mul_packed(packed.view(), rounded.view(), whole.view());
  FloatMatrix alone = FloatMatrix::Poisoned(17, rows);
  for (int64_t t = 0; t < 17; ++t)
    kernels().mat_mul_packed(packed.view(), rounded.view().Tokens(t, 1), alone.view().Rows(t, 1));
  EXPECT_TRUE(reference::SameBits(whole.view(), alone.view()));
  FloatMatrix by_panel = FloatMatrix::Poisoned(17, rows);
  for (int64_t p = 0; p < packed.view().panels(); ++p) {
    const PackedView panel = packed.view().Panels(p, 1);
    kernels().mat_mul_packed(panel, rounded.view(), by_panel.view().Columns(p * kPanelRows, panel.rows));
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
  const PackedMatrix packed = Pack(w.view());
  const auto product = [&](const KernelTable& table) {
    const Rounded rounded(table, x.view());
    FloatMatrix y = FloatMatrix::Poisoned(9, rows);
    table.mat_mul_packed(packed.view(), rounded.view(), y.view());
    return y;
  };
  EXPECT_TRUE(reference::SameBits(product(kernels()).view(), product(BestKernels()).view()));
}

TEST_P(MatMulPackedTest, TheTeamAddsNothing) {
  const int64_t cols = 2 * Unit(), rows = 1000;
  const RandomWeights w(type().type, rows, cols, 8);
  const FloatMatrix x = FloatMatrix::Random(140, cols, 9);
  const PackedMatrix packed = Pack(w.view());
  const Rounded rounded(kernels(), x.view());
  FloatMatrix expected = FloatMatrix::Poisoned(140, rows);
  kernels().mat_mul_packed(packed.view(), rounded.view(), expected.view());
  for (const int threads : {1, 3}) {
    const auto team = *ThreadTeam::Create(threads);
    const CpuContext context{.team = team.get(), .kernels = &kernels()};
    FloatMatrix y = FloatMatrix::Poisoned(140, rows);
    MatMul(context, packed.view(), x.view(), y.view());
    EXPECT_TRUE(reference::SameBits(y.view(), expected.view())) << threads;
  }
}

TEST_P(MatMulPackedTest, PackingWhileMultiplyingChangesNothing) {
  const int64_t cols = 2 * Unit(), rows = 1000;
  const RandomWeights w(type().type, rows, cols, 11);
  const WeightView odd = w.view().Rows(0, 999);
  const PackedMatrix packed = Pack(odd);
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
