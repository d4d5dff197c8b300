// With every neuron a candidate the sparse step has the bits of the dense one.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/kernels_cpu/sparse_ffn_testing.h"

namespace thermocline {
namespace {

using namespace testing_sparse;
using reference::SameBits;

class SparseDenseTest : public IsaTypeTest {};
INSTANTIATE_TEST_SUITE_P(All, SparseDenseTest, EveryIsaAndType(), IsaTypeName);

// What a step over every neuron reads, from the dense step's numbers.
NeuronReads ReadsOf(const DenseResult& dense, bool gated) {
  const MatrixView<const float> active = dense.active.view(), hidden = dense.hidden.view();
  NeuronReads reads{.gate_rows = active.cols};
  for (int64_t i = 0; i < active.cols; ++i) {
    bool fires = false, counts = false;
    for (int64_t t = 0; t < active.rows; ++t) {
      fires |= active.row_data(t)[i] != 0.0f;
      counts |= hidden.row_data(t)[i] != 0.0f;
    }
    reads.up_rows += gated && fires;
    reads.down_rows += counts;
  }
  return reads;
}

void ExpectSame(const Result& sparse, const DenseResult& dense, const BundleView& bundles) {
  ASSERT_TRUE(SameBits(sparse.y.view(), dense.y.view()));
  for (int64_t i = 0; i < bundles.n_neurons; ++i) {
    uint32_t expected = 0;
    for (int64_t t = 0; t < sparse.y.view().rows; ++t)
      expected |= (dense.active.view().row_data(t)[i] != 0.0f ? 1u : 0u) << t;
    ASSERT_EQ(sparse.fired[static_cast<size_t>(i)], expected) << "neuron " << i;
  }
  ASSERT_EQ(sparse.reads, ReadsOf(dense, bundles.gated));
}

TEST_P(SparseDenseTest, EveryCandidateGivesTheBitsOfTheDenseStep) {
  uint32_t seed = 0;
  for (const int64_t d_model : Widths(type())) {
    for (const int64_t n : kNeurons) {
      for (const int64_t tokens : {1, 2, 7, 16}) {
        ++seed;
        const bool gated = seed % 3 != 0;
        const ActivationFunction activation = ActivationOf(seed, d_model);
        const RandomBundles bundles({type().type, type().type, type().type}, gated, n, d_model, seed);
        const FloatMatrix x = FloatMatrix::Random(tokens, d_model, seed + 1000, seed % 4);
        SCOPED_TRACE(fmt::format("{} neurons, d_model {}, {} tokens, gated {}, {}", n, d_model, tokens, gated,
                                 NameOf(activation.kind)));
        const DenseResult dense =
            RunDense(kernels(), 1, bundles.view(), activation, x.view(), ZeroRows::kSkip);
        const std::vector<uint32_t> rows = EveryRow(n);
        const std::vector<TokenMask> every(rows.size(), static_cast<TokenMask>((1u << tokens) - 1));
        const int threads = 1 + static_cast<int>(seed % 4);
        ExpectSame(RunSparse(kernels(), threads, bundles.view(), activation, x.view(), {rows, {}}), dense,
                   bundles.view());
        ExpectSame(RunSparse(kernels(), threads, bundles.view(), activation, x.view(), {rows, every}), dense,
                   bundles.view());
        const DenseResult read =
            RunDense(kernels(), threads, bundles.view(), activation, x.view(), ZeroRows::kRead);
        ASSERT_TRUE(SameBits(read.y.view(), dense.y.view()));
      }
    }
  }
}

TEST_P(SparseDenseTest, PartsOfOtherTypes) {
  const std::span<const ElementTypeInfo> types = AllElementTypes();
  const auto own = static_cast<size_t>(type().type);
  const ElementType second = types[(own + 3) % types.size()].type,
                    third = types[(own + 7) % types.size()].type;
  const RandomBundles bundles({type().type, second, third}, true, 150, 256, 1);
  for (const int64_t tokens : {1, 5}) {
    const FloatMatrix x = FloatMatrix::Random(tokens, 256, 2);
    const DenseResult dense =
        RunDense(kernels(), 2, bundles.view(), Activation::kRelu, x.view(), ZeroRows::kSkip);
    const std::vector<uint32_t> rows = EveryRow(150);
    ExpectSame(RunSparse(kernels(), 2, bundles.view(), Activation::kRelu, x.view(), {rows, {}}), dense,
               bundles.view());
  }
}

class SparseDenseIsaTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, SparseDenseIsaTest, EveryIsa(), IsaName);

TEST_P(SparseDenseIsaTest, RangesOfSeveralBlocks) {
  const int64_t n = 32 * 530, d_model = 32;  // more than a range's block of 512
  const RandomBundles bundles({ElementType::kQ4_0, ElementType::kQ8_0, ElementType::kF16}, true, n, d_model,
                              1);
  for (const int64_t tokens : {1, 3}) {
    const FloatMatrix x = FloatMatrix::Random(tokens, d_model, 2);
    const DenseResult dense =
        RunDense(kernels(), 2, bundles.view(), Activation::kRelu, x.view(), ZeroRows::kSkip);
    const std::vector<uint32_t> rows = EveryRow(n);
    ExpectSame(RunSparse(kernels(), 2, bundles.view(), Activation::kRelu, x.view(), {rows, {}}), dense,
               bundles.view());
  }
}

TEST_P(SparseDenseIsaTest, NotANumberFiresAndStaysWithItsToken) {
  const int64_t n = 70, d_model = 96;
  const RandomBundles bundles({ElementType::kQ8_0, ElementType::kQ8_0, ElementType::kQ8_0}, true, n, d_model,
                              1);
  const std::vector<uint32_t> rows = EveryRow(n);
  for (const ActivationFunction activation :
       {ActivationFunction(Activation::kRelu), ActivationFunction(Activation::kFatRelu, 1.0f)}) {
    for (const int64_t tokens : {1, 4}) {
      FloatMatrix x = FloatMatrix::Random(tokens, d_model, 2);
      const Result before = RunSparse(kernels(), 1, bundles.view(), activation, x.view(), {rows, {}});
      x.view().row(tokens - 1)[17] = NAN;
      const Result after = RunSparse(kernels(), 1, bundles.view(), activation, x.view(), {rows, {}});
      for (const float value : after.y.view().row(tokens - 1)) EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(SameBits(after.y.view().Rows(0, tokens - 1), before.y.view().Rows(0, tokens - 1)));
      for (const TokenMask fired : after.fired) EXPECT_EQ(fired >> (tokens - 1), 1);
      EXPECT_EQ(after.reads, (NeuronReads{n, n, n}));
    }
  }
}

}  // namespace
}  // namespace thermocline
