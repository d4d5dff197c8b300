// Steps over lists of candidates: values, masks, companions, threads, and what is not read.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/kernels_cpu/sparse_ffn_testing.h"
#include "tests/support/reference.h"

namespace thermocline {
namespace {

using namespace testing_sparse;
using reference::SameBits;
using reference::Sum;

class SparseFfnTest : public IsaTypeTest {};
INSTANTIATE_TEST_SUITE_P(All, SparseFfnTest, EveryIsaAndType(), IsaTypeName);

// A random list of candidates with the tokens that need each.
struct Candidates {
  std::vector<uint32_t> rows;
  std::vector<TokenMask> tokens;

  Candidates() = default;
  Candidates(int64_t n_neurons, int64_t n_tokens, uint32_t seed) {
    std::mt19937 random(seed);
    const uint32_t period = 1 + random() % 4;          // of listed neurons
    const uint32_t all_tokens = (1u << n_tokens) - 1;  // some neurons are needed by every token
    for (int64_t i = 0; i < n_neurons; ++i) {
      // A stretch of several ranges without candidates.
      if (random() % period != 0 || (i > n_neurons / 4 && i < n_neurons / 2)) continue;
      const uint32_t mask = random() % 3 == 0 ? all_tokens : random() & random() & all_tokens;
      if (mask == 0) continue;
      rows.push_back(static_cast<uint32_t>(i));
      tokens.push_back(static_cast<TokenMask>(mask));
    }
  }

  // Those that token t needs, for a step of that token alone.
  Candidates Alone(int64_t t) const {
    Candidates alone;
    for (size_t i = 0; i < rows.size(); ++i) {
      if (((tokens[i] >> t) & 1) == 0) continue;
      alone.rows.push_back(rows[i]);
      alone.tokens.push_back(1);
    }
    return alone;
  }
  NeuronSelection selection() const { return {rows, tokens}; }
};

// Token t's result by plain loops in double. A gate too close to the threshold to tell goes as it went.
void ExpectReference(const BundleView& bundles, ActivationFunction activation, MatrixView<const float> x,
                     const Candidates& candidates, const Result& result, int64_t t) {
  const auto d_model = static_cast<size_t>(bundles.d_model);
  std::vector<double> y(d_model), magnitude(d_model), error(d_model);
  for (size_t i = 0; i < candidates.rows.size(); ++i) {
    const int64_t row = candidates.rows[i];
    const bool fired = ((result.fired[i] >> t) & 1) != 0;
    if (((candidates.tokens[i] >> t) & 1) == 0) {
      ASSERT_FALSE(fired) << "row " << row << " for token " << t;
      continue;
    }
    const Sum gate = reference::Dot(bundles.gate(), row, x.row(t));
    const double gate_error = SumTolerance(bundles.d_model, gate.magnitude);
    const double expected = reference::Activate(activation, gate.value);
    // SiLU of less than -88 is below 1e-36 and may round to zero.
    const bool vanishes = expected != 0.0 && std::abs(expected) < 1e-36;
    if (std::abs(gate.value - activation.threshold) > gate_error && !vanishes) {
      ASSERT_EQ(fired, expected != 0.0) << "row " << row;
    }
    if (!fired) continue;
    const double active =
        activation.kind == Activation::kSilu ? reference::Activate(activation, gate.value) : gate.value;
    const Sum up = bundles.gated ? reference::Dot(bundles.up(), row, x.row(t)) : Sum{1.0, 0.0};
    const double hidden = active * up.value;
    // The slope of SiLU is at most 1.1; its exponential errs by a few ulp.
    const double hidden_error = 1.1 * gate_error * std::abs(up.value) +
                                std::abs(active) * SumTolerance(bundles.d_model, up.magnitude) +
                                6 * 0x1p-23 * std::abs(hidden);
    for (size_t c = 0; c < d_model; ++c) {
      const double w =
          reference::Element(bundles.down_type, bundles.down().row_data(row), static_cast<int64_t>(c));
      y[c] += hidden * w;
      magnitude[c] += std::abs(hidden * w);
      error[c] += hidden_error * std::abs(w);
    }
  }
  const auto terms = static_cast<int64_t>(candidates.rows.size());
  for (size_t c = 0; c < d_model; ++c)
    ASSERT_NEAR(result.y.view().row(t)[c], y[c], error[c] + SumTolerance(terms, magnitude[c]))
        << "column " << c;
}

TEST_P(SparseFfnTest, ListsAndMasksEqualTheReferenceWhateverTheCompanions) {
  uint32_t seed = 0;
  for (const int64_t d_model : Widths(type())) {
    for (const int64_t n : kNeurons) {
      for (const int64_t tokens : {1, 2, 5, 16}) {
        ++seed;
        const bool gated = seed % 3 != 0;
        const ActivationFunction activation = ActivationOf(seed, d_model);
        const RandomBundles bundles({type().type, type().type, type().type}, gated, n, d_model, seed);
        const FloatMatrix x = FloatMatrix::Random(tokens, d_model, seed + 1000, seed % 4);
        const Candidates candidates(n, tokens, seed);
        SCOPED_TRACE(fmt::format("{} neurons, d_model {}, {} tokens, gated {}, {}", n, d_model, tokens, gated,
                                 NameOf(activation.kind)));
        const Result result =
            RunSparse(kernels(), 1, bundles.view(), activation, x.view(), candidates.selection());
        EXPECT_EQ(result.reads.gate_rows, std::ssize(candidates.rows));
        for (const int64_t t : {int64_t{0}, tokens / 2, tokens - 1}) {
          const Result alone = RunSparse(kernels(), 1, bundles.view(), activation, x.view().Rows(t, 1),
                                         candidates.Alone(t).selection());
          ASSERT_TRUE(SameBits(alone.y.view(), result.y.view().Rows(t, 1))) << "token " << t;
        }
        ASSERT_NO_FATAL_FAILURE(
            ExpectReference(bundles.view(), activation, x.view(), candidates, result, tokens - 1));
      }
    }
  }
}

TEST_P(SparseFfnTest, TheNumberOfThreadsChangesNoBit) {
  const int64_t n = 200, d_model = Widths(type()).back();
  const RandomBundles bundles({type().type, type().type, type().type}, true, n, d_model, 1);
  for (const int64_t tokens : {1, 6}) {
    const FloatMatrix x = FloatMatrix::Random(tokens, d_model, 2);
    const Candidates candidates(n, tokens, 3);
    const Result one =
        RunSparse(kernels(), 1, bundles.view(), Activation::kRelu, x.view(), candidates.selection());
    for (const int threads : {2, 3, 4}) {
      const Result other =
          RunSparse(kernels(), threads, bundles.view(), Activation::kRelu, x.view(), candidates.selection());
      EXPECT_TRUE(SameBits(other.y.view(), one.y.view())) << threads;
      EXPECT_EQ(other.fired, one.fired);
      EXPECT_EQ(other.reads, one.reads);
    }
  }
}

TEST_P(SparseFfnTest, OnlyWhatIsNeededIsRead) {
  const int64_t n = 150, d_model = 256;
  for (const int64_t tokens : {1, 3}) {
    for (const bool gated : {true, false}) {
      RandomBundles bundles({type().type, type().type, type().type}, gated, n, d_model, 1);
      const FloatMatrix x = FloatMatrix::Random(tokens, d_model, 2);
      const Candidates candidates(n, tokens, 5);
      const Result whole =
          RunSparse(kernels(), 2, bundles.view(), Activation::kRelu, x.view(), candidates.selection());
      // What is read from now on and ought not to be makes NaN.
      size_t next = 0;
      int64_t silent = 0, fired = 0;
      for (int64_t i = 0; i < n; ++i) {
        const bool listed = next < candidates.rows.size() && candidates.rows[next] == i;
        if (!listed) bundles.PoisonGate(i);
        if (!listed || whole.fired[next] == 0) bundles.PoisonUpAndDown(i);
        silent += listed && whole.fired[next] == 0;
        fired += listed && whole.fired[next] != 0;
        next += listed;
      }
      ASSERT_GT(silent, 0);
      ASSERT_GT(fired, 0);
      const Result again =
          RunSparse(kernels(), 2, bundles.view(), Activation::kRelu, x.view(), candidates.selection());
      EXPECT_TRUE(SameBits(again.y.view(), whole.y.view()));
      EXPECT_EQ(again.reads, (NeuronReads{silent + fired, gated ? fired : 0, fired}));
    }
  }
}

class SparseFfnIsaTest : public IsaTest {};
INSTANTIATE_TEST_SUITE_P(All, SparseFfnIsaTest, EveryIsa(), IsaName);

TEST_P(SparseFfnIsaTest, NoCandidatesGiveZeros) {
  const RandomBundles bundles({ElementType::kF32, ElementType::kF32, ElementType::kF32}, true, 40, 33, 1);
  for (const int64_t tokens : {1, 3}) {
    const FloatMatrix x = FloatMatrix::Random(tokens, 33, 2);
    const Result result = RunSparse(kernels(), 2, bundles.view(), Activation::kRelu, x.view(), {});
    for (int64_t t = 0; t < tokens; ++t)
      for (const float value : result.y.view().row(t)) EXPECT_EQ(value, 0.0f);
    EXPECT_EQ(result.reads, NeuronReads{});
  }
}

TEST(NeuronReads, BytesAreThoseOfTheRowsInTheirTypes) {
  const RandomBundles bundles({ElementType::kQ4_0, ElementType::kF16, ElementType::kQ8_0}, true, 4, 64, 1);
  NeuronReads reads{.gate_rows = 3, .up_rows = 2};
  reads += {.gate_rows = 0, .up_rows = 0, .down_rows = 1};
  EXPECT_EQ(reads.Bytes(bundles.view()), 3 * 2 * 18 + 2 * 128 + 1 * 2 * 34);
}

}  // namespace
}  // namespace thermocline
