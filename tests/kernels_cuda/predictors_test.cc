// Predictors on the GPU: marks against scores in double, ties, NaN, companions, refusals.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels_cpu/neurons.h"
#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;
using reference::Sum;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

class GpuPredictorsTest : public GpuTest {
 protected:
  std::vector<GpuTokenMask> MarkByMlp(const WeightView& w1, const std::vector<float>& b1,
                                      const WeightView& w2, const std::vector<float>& b2,
                                      MatrixView<const float> x, const std::vector<float>& thresholds) {
    const auto marked = PoisonedArray<GpuTokenMask>(w2.rows);
    const absl::Status status =
        gpu().kernels().mlp_predictor({.w1 = Upload(w1),
                                       .b1 = Upload(b1).data,
                                       .w2 = Upload(w2),
                                       .b2 = Upload(b2).data,
                                       .x = Upload(x).view(),
                                       .thresholds = Upload(thresholds).data,
                                       .marked = marked.data,
                                       .scratch = PoisonedArray<float>(x.rows * w1.rows).span()},
                                      stream());
    EXPECT_TRUE(status.ok()) << status;
    return Download(marked);
  }

  std::vector<GpuTokenMask> MarkBySigns(MatrixView<const uint64_t> signs, MatrixView<const float> x,
                                        const std::vector<float>& thresholds, int64_t offset = 0) {
    const auto marked = PoisonedArray<GpuTokenMask>(signs.rows);
    const absl::Status status = gpu().kernels().sign_predictor(
        {.signs = Upload(signs, offset).view(),
         .x = Upload(x).view(),
         .thresholds = Upload(thresholds).data,
         .marked = marked.data,
         .scratch = PoisonedArray<float>(x.rows * 2 * BitWords(x.cols)).span()},
        stream());
    EXPECT_TRUE(status.ok()) << status;
    return Download(marked);
  }
};
INSTANTIATE_TEST_SUITE_P(All, GpuPredictorsTest, EveryGpu(), GpuName);

std::vector<float> RandomVector(int64_t size, uint32_t seed) {
  const FloatMatrix row = FloatMatrix::Random(1, size, seed);
  return {row.view().row(0).begin(), row.view().row(0).end()};
}

struct MlpCase {
  int64_t d_model;
  int64_t hidden;
  int64_t n;
  int64_t tokens;
};

TEST_P(GpuPredictorsTest, MlpMarksWhatReachesTheThreshold) {
  uint32_t seed = 0;
  for (const MlpCase& c : {MlpCase{256, 256, 90, 1}, MlpCase{64, 32, 33, 16}, MlpCase{544, 96, 7, 3},
                           MlpCase{1280, 512, 20, 5}}) {
    seed += 10;
    SCOPED_TRACE(
        fmt::format("d_model {}, hidden {}, {} neurons, {} tokens", c.d_model, c.hidden, c.n, c.tokens));
    const RandomWeights w1(ElementType::kQ8_0, c.hidden, c.d_model, seed);
    const RandomWeights w2(ElementType::kQ8_0, c.n, c.hidden, seed + 1);
    const std::vector<float> b1 = RandomVector(c.hidden, seed + 2), b2 = RandomVector(c.n, seed + 3);
    const FloatMatrix x = FloatMatrix::Random(c.tokens, c.d_model, seed + 4, c.tokens % 2);
    const std::vector<float> thresholds = RandomVector(c.tokens, seed + 5);
    const auto marked = MarkByMlp(w1.view(), b1, w2.view(), b2, x.view(), thresholds);
    int64_t reached = 0, told = 0;
    for (int64_t t = 0; t < c.tokens; ++t) {
      std::vector<float> hidden(static_cast<size_t>(c.hidden));
      std::vector<double> errors(static_cast<size_t>(c.hidden));
      for (int64_t h = 0; h < c.hidden; ++h) {
        const auto at = static_cast<size_t>(h);
        const Sum sum = reference::Dot(w1.view(), h, x.view().row(t));
        hidden[at] = static_cast<float>(std::max(0.0, sum.value + b1[at]));
        errors[at] = SumTolerance(c.d_model + 1, sum.magnitude + std::abs(b1[at]));
      }
      for (int64_t i = 0; i < c.n; ++i) {
        const Sum sum = reference::Dot(w2.view(), i, hidden);
        double error = SumTolerance(c.hidden + 1, sum.magnitude + 1.0);
        for (int64_t h = 0; h < c.hidden; ++h) {
          error += errors[static_cast<size_t>(h)] *
                   std::abs(reference::Element(ElementType::kQ8_0, w2.view().row_data(i), h));
        }
        const double above =
            sum.value + b2[static_cast<size_t>(i)] - static_cast<double>(thresholds[static_cast<size_t>(t)]);
        if (std::abs(above) <= error) continue;
        ++told;
        reached += above > 0;
        ASSERT_EQ((marked[static_cast<size_t>(i)] >> t & 1) != 0, above > 0)
            << "neuron " << i << ", token " << t;
      }
    }
    for (const GpuTokenMask mask : marked) ASSERT_EQ(mask >> c.tokens, 0);
    EXPECT_GT(reached, 0);
    EXPECT_LT(reached, told);
  }
}

TEST_P(GpuPredictorsTest, MlpMarksOfATokenAreItsOwn) {
  const RandomWeights w1(ElementType::kQ8_0, 64, 256, 1), w2(ElementType::kQ8_0, 50, 64, 2);
  const std::vector<float> b1 = RandomVector(64, 3), b2 = RandomVector(50, 4);
  const FloatMatrix x = FloatMatrix::Random(7, 256, 5);
  const auto together = MarkByMlp(w1.view(), b1, w2.view(), b2, x.view(), std::vector<float>(7, 0.0f));
  for (int64_t t = 0; t < 7; ++t) {
    const auto alone = MarkByMlp(w1.view(), b1, w2.view(), b2, x.view().Rows(t, 1), {0.0f});
    for (size_t i = 0; i < alone.size(); ++i) ASSERT_EQ(alone[i], together[i] >> t & 1) << t << ", " << i;
  }
}

TEST_P(GpuPredictorsTest, MlpTiesMarkAndNaNNever) {
  // Weights of zero: the scores are b2 exactly.
  const std::vector<std::byte> zeros(34 * 40);
  const WeightView w1 = {zeros.data(), ElementType::kQ8_0, 32, 32, 34};
  const WeightView w2 = {zeros.data(), ElementType::kQ8_0, 4, 32, 34};
  const std::vector<float> b1(32), b2 = {0.5f, std::nextafter(0.5f, 0.0f), kNaN, 1.0f};
  FloatMatrix x = FloatMatrix::Random(3, 32, 1);
  x.view().row(1)[7] = kNaN;
  EXPECT_EQ(MarkByMlp(w1, b1, w2, b2, x.view(), {0.5f, -1e30f, kNaN}),
            (std::vector<GpuTokenMask>{1, 0, 0, 1}))
      << "the second token's scores and the third's threshold are NaN";
}

TEST_P(GpuPredictorsTest, SignsMarkByAgreement) {
  uint32_t seed = 0;
  for (const int64_t d_model : {1, 64, 100, 256, 8192 + 192, 8192 + 128}) {
    for (const int64_t tokens : {1, 3, 16}) {
      const int64_t n = d_model > 1000 ? 9 : 70, words = BitWords(d_model);
      SCOPED_TRACE(fmt::format("d_model {}, {} tokens", d_model, tokens));
      const FloatMatrix gate = FloatMatrix::Random(n, d_model, ++seed);
      FloatMatrix x = FloatMatrix::Random(tokens, d_model, seed + 50, 1);
      x.view().row(0)[0] = seed % 2 == 0 ? -0.0f : kNaN;  // not negative
      std::vector<uint64_t> signs(static_cast<size_t>(n * words));
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < d_model; ++c)
          signs[static_cast<size_t>(i * words + c / 64)] |= uint64_t{gate.view().row(i)[c] < 0} << c % 64;
      std::vector<std::vector<int64_t>> scores(static_cast<size_t>(tokens));
      std::vector<float> thresholds;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t i = 0; i < n; ++i) {
          int64_t score = 0;
          for (int64_t c = 0; c < d_model; ++c)
            score += (gate.view().row(i)[c] < 0) == (x.view().row(t)[c] < 0) ? 1 : -1;
          scores[static_cast<size_t>(t)].push_back(score);
        }
        // One that some neuron reaches exactly; NaN for one token.
        const int64_t some = scores[static_cast<size_t>(t)][static_cast<size_t>(n / 2)];
        thresholds.push_back(t == 2 ? kNaN : static_cast<float>(some));
      }
      const MatrixView<const uint64_t> view = {signs.data(), n, words, words};
      const auto marked = MarkBySigns(view, x.view(), thresholds);
      for (int64_t i = 0; i < n; ++i) {
        GpuTokenMask expected = 0;
        for (int64_t t = 0; t < tokens; ++t) {
          const auto score = static_cast<float>(scores[static_cast<size_t>(t)][static_cast<size_t>(i)]);
          if (score >= thresholds[static_cast<size_t>(t)]) expected |= static_cast<GpuTokenMask>(1u << t);
        }
        ASSERT_EQ(marked[static_cast<size_t>(i)], expected) << "neuron " << i;
      }
      EXPECT_EQ(MarkBySigns(view, x.view(), thresholds, 8), marked) << "rows between multiples of 16 bytes";
    }
  }
}

TEST_P(GpuPredictorsTest, RefuseWhatTheyCannotScore) {
  const RandomWeights w1(ElementType::kQ8_0, 64, 256, 1), w2(ElementType::kQ8_0, 50, 64, 2);
  const GpuMlpPredictorArgs mlp = {.w1 = Upload(w1.view()),
                                   .b1 = PoisonedArray<float>(64).data,
                                   .w2 = Upload(w2.view()),
                                   .b2 = PoisonedArray<float>(50).data,
                                   .x = Poisoned<float>(2, 256).view(),
                                   .thresholds = PoisonedArray<float>(2).data,
                                   .marked = PoisonedArray<GpuTokenMask>(50).data,
                                   .scratch = PoisonedArray<float>(128).span()};
  const auto refusal = [&](const auto& change) {
    GpuMlpPredictorArgs args = mlp;
    change(args);
    return gpu().kernels().mlp_predictor(args, stream());
  };
  ASSERT_TRUE(refusal([](GpuMlpPredictorArgs&) {}).ok());
  const auto many = Poisoned<float>(17, 256);
  ExpectRefusal(refusal([&](GpuMlpPredictorArgs& a) { a.x = many.view(); }), {"17", "16"});
  ExpectRefusal(refusal([](GpuMlpPredictorArgs& a) { a.x.cols = 224; }), {"x", "224", "256"});
  ExpectRefusal(refusal([](GpuMlpPredictorArgs& a) { a.w2.cols = 32; }), {"32", "64"});
  ExpectRefusal(refusal([](GpuMlpPredictorArgs& a) { a.b2 = nullptr; }), {"b2"});
  ExpectRefusal(refusal([](GpuMlpPredictorArgs& a) { a.scratch = a.scratch.first(127); }), {"scratch"});
  const absl::Status type = refusal([](GpuMlpPredictorArgs& a) { a.w1.type = ElementType::kQ4_0; });
  EXPECT_EQ(type.code(), absl::StatusCode::kUnimplemented);

  const GpuSignPredictorArgs sign = {.signs = Poisoned<uint64_t>(5, 4).view(),
                                     .x = Poisoned<float>(2, 250).view(),
                                     .thresholds = PoisonedArray<float>(2).data,
                                     .marked = PoisonedArray<GpuTokenMask>(5).data,
                                     .scratch = PoisonedArray<float>(16).span()};
  const auto refused = [&](const auto& change) {
    GpuSignPredictorArgs args = sign;
    change(args);
    return gpu().kernels().sign_predictor(args, stream());
  };
  ASSERT_TRUE(refused([](GpuSignPredictorArgs&) {}).ok());
  ExpectRefusal(refused([&](GpuSignPredictorArgs& a) { a.x = many.view(); }), {"17", "16"});
  ExpectRefusal(refused([](GpuSignPredictorArgs& a) { a.signs.cols = 3; }), {"signs"});
  ExpectRefusal(refused([](GpuSignPredictorArgs& a) { a.scratch = a.scratch.first(15); }), {"scratch"});
  ExpectRefusal(refused([](GpuSignPredictorArgs& a) { a.marked = nullptr; }), {"marked"});
}

}  // namespace
}  // namespace thermocline
