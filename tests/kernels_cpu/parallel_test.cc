// The kernels over a thread team: equal to the single-threaded ones, and the same bits for 1, 2 and 4
// threads. SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/parallel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;
using reference::SameBits;

// Runs `body` with teams of 1, 2 and 4 threads on a fresh poisoned matrix each; returns the first result
// after checking that all have the same bits.
FloatMatrix OnAllTeams(int64_t rows, int64_t cols,
                       const std::function<void(const CpuContext&, MatrixView<float>)>& body) {
  FloatMatrix first = FloatMatrix::Poisoned(rows, cols);
  for (const int threads : {1, 2, 4}) {
    const std::unique_ptr<ThreadTeam> team = ThreadTeam::Create(threads).value();
    const CpuContext context{team.get(), &BestKernels()};
    FloatMatrix result = FloatMatrix::Poisoned(rows, cols);
    body(context, result.view());
    if (threads == 1) {
      first = std::move(result);
    } else {
      EXPECT_TRUE(SameBits(result.view(), first.view())) << threads << " threads";
    }
  }
  return first;
}

FloatMatrix HalfSilent(int64_t tokens, int64_t n_neurons) {
  FloatMatrix hidden = FloatMatrix::Random(tokens, n_neurons, 9);
  for (int64_t t = 0; t < tokens; ++t)
    for (float& value : hidden.view().row(t)) value = std::max(value, 0.0f);
  return hidden;
}

TEST(Parallel, MatMulHasTheBitsOfTheKernel) {
  for (const ElementType type : {ElementType::kF32, ElementType::kQ4_1}) {
    for (const int64_t tokens : {1, 3, 150}) {
      const RandomWeights w(type, 701, 544, 1);
      const FloatMatrix x = FloatMatrix::Random(tokens, 544, 2);
      const FloatMatrix y = OnAllTeams(tokens, 701, [&](const CpuContext& context, MatrixView<float> out) {
        MatMul(context, w.view(), x.view(), out);
      });
      FloatMatrix expected = FloatMatrix::Poisoned(tokens, 701);
      BestKernels().mat_mul(w.view(), x.view(), expected.view());
      EXPECT_TRUE(SameBits(y.view(), expected.view()));
    }
  }
}

class NeuronMajorDownTest : public testing::TestWithParam<ElementTypeInfo> {};
INSTANTIATE_TEST_SUITE_P(All, NeuronMajorDownTest,
                         testing::ValuesIn(AllElementTypes().begin(), AllElementTypes().end()),
                         [](const auto& test) { return std::string(test.param.name); });

FloatMatrix Down(const WeightView& down, MatrixView<const float> hidden) {
  return OnAllTeams(hidden.rows, down.cols, [&](const CpuContext& context, MatrixView<float> out) {
    std::vector<float> partials(static_cast<size_t>(FfnPartialsSize(down.cols)), NAN);
    NeuronMajorDown(context, down, hidden, partials, out);
  });
}

TEST_P(NeuronMajorDownTest, EqualsTheReferenceAndABatchHasTheBitsOfItsTokens) {
  // Fewer neurons than ranges, no multiple of them, many; one and several blocks of columns and tokens.
  const int64_t ragged = GetParam().block_elements;
  for (const int64_t d_ff : {1, 7, 100, 333}) {
    for (const int64_t d_model : {ragged, int64_t{768}}) {
      const RandomWeights down(GetParam().type, d_ff, d_model, 1, 0, 6);
      const FloatMatrix hidden = HalfSilent(70, d_ff);
      const FloatMatrix batch = Down(down.view(), hidden.view());
      for (const int64_t token : {0, 33, 69}) {
        const FloatMatrix alone = Down(down.view(), hidden.view().Rows(token, 1));
        EXPECT_TRUE(SameBits(alone.view(), batch.view().Rows(token, 1))) << d_ff << "x" << d_model;
        for (int64_t c = 0; c < d_model; c += 13) {
          const reference::Sum sum =
              reference::AccumulateColumn(down.view(), hidden.view().row(token), c, 0.0f);
          ASSERT_NEAR(alone.view().data[c], sum.value, SumTolerance(d_ff, sum.magnitude));
        }
      }
    }
  }
}

TEST(Parallel, ElementwiseOperationsHaveTheBitsOfTheKernels) {
  const int64_t tokens = 50, width = 2048;
  const FloatMatrix a = FloatMatrix::Random(tokens, width, 1), b = FloatMatrix::Random(tokens, width, 2);
  const KernelTable& kernels = BestKernels();
  FloatMatrix expected = FloatMatrix::Poisoned(tokens, width);

  const FloatMatrix hidden = OnAllTeams(tokens, width, [&](const CpuContext& context, MatrixView<float> out) {
    GatedActivation(context, Activation::kSilu, a.view(), b.view(), out);
  });
  for (int64_t t = 0; t < tokens; ++t)
    kernels.gated_activation(Activation::kSilu, a.view().row(t), b.view().row(t), expected.view().row(t));
  EXPECT_TRUE(SameBits(hidden.view(), expected.view()));

  const FloatMatrix normed = OnAllTeams(tokens, width, [&](const CpuContext& context, MatrixView<float> out) {
    RmsNorm(context, a.view(), b.view().row(0), 1e-6f, out);
  });
  for (int64_t t = 0; t < tokens; ++t)
    kernels.rms_norm(a.view().row(t), b.view().row(0), 1e-6f, expected.view().row(t));
  EXPECT_TRUE(SameBits(normed.view(), expected.view()));

  const FloatMatrix sum = OnAllTeams(tokens, width, [&](const CpuContext& context, MatrixView<float> out) {
    for (int64_t t = 0; t < tokens; ++t) std::ranges::copy(a.view().row(t), out.row_data(t));
    AddRows(context, b.view(), out);
  });
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < width; ++c)
      ASSERT_EQ(sum.view().row_data(t)[c], a.view().row_data(t)[c] + b.view().row_data(t)[c]);
}

TEST(Parallel, RopeRotatesEveryHeadByItsTokensAngles) {
  const int64_t tokens = 40, d_head = 64, n_heads = 33;
  const FloatMatrix x = FloatMatrix::Random(tokens, n_heads * d_head, 1);
  const FloatMatrix cos = FloatMatrix::Random(tokens, d_head / 2, 2),
                    sin = FloatMatrix::Random(tokens, d_head / 2, 3);
  const FloatMatrix rotated =
      OnAllTeams(tokens, n_heads * d_head, [&](const CpuContext& context, MatrixView<float> out) {
        for (int64_t t = 0; t < tokens; ++t) std::ranges::copy(x.view().row(t), out.row_data(t));
        Rope(context, cos.view(), sin.view(), d_head, true, out);
      });
  for (const int64_t t : {0, 39}) {
    for (const int64_t head : {0, 32}) {
      const std::vector<double> expected =
          reference::Rope(x.view().row(t).subspan(static_cast<size_t>(head * d_head), 64), cos.view().row(t),
                          sin.view().row(t), true);
      for (int64_t i = 0; i < d_head; ++i)
        ASSERT_NEAR(rotated.view().row_data(t)[head * d_head + i], expected[static_cast<size_t>(i)],
                    3 * 0x1p-24);
    }
  }
}

TEST(Parallel, AttentionCoversEveryTokenAndHead) {
  const int64_t tokens = 6, n_heads = 9, n_kv_heads = 3, d_head = 64, first = 20;
  const FloatMatrix queries = FloatMatrix::Random(tokens, n_heads * d_head, 1);
  const KvLayout layout{ElementType::kF32, n_kv_heads, d_head};
  const FloatMatrix cache = FloatMatrix::Random(2, layout.page_bytes() / 4, 2);
  const std::vector<int32_t> pages = {1, 0};
  std::vector<AttentionToken> seen;
  for (int64_t t = 0; t < tokens; ++t) seen.push_back({pages.data(), first + t + 1});
  AttentionArgs args{.queries = queries.view(),
                     .output = {},
                     .tokens = seen,
                     .cache = reinterpret_cast<const std::byte*>(cache.view().data),
                     .layout = layout,
                     .n_heads = n_heads,
                     .scale = 0.125f};
  const FloatMatrix output =
      OnAllTeams(tokens, n_heads * d_head, [&](const CpuContext& context, MatrixView<float> out) {
        FloatMatrix scratch = FloatMatrix::Poisoned(context.team->threads(), AttentionScratchSize(d_head));
        AttentionArgs with_output = args;
        with_output.output = out;
        Attention(context, with_output, scratch.view());
      });
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t head = 0; head < n_heads; ++head) {
      const std::vector<double> expected = reference::AttendHead(args, t, head);
      for (int64_t i = 0; i < d_head; ++i)
        ASSERT_NEAR(output.view().row_data(t)[head * d_head + i], expected[static_cast<size_t>(i)], 1e-5);
    }
  }
}

}  // namespace
}  // namespace thermocline
