// Products with weight rows on the GPU: types, ragged shapes, alignments, companions, refusals.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

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

class GpuMatMulTest : public GpuTest {
 protected:
  std::vector<float> Product(const WeightView& w, MatrixView<const float> x, int64_t weights_offset = 0) {
    const auto y = Poisoned<float>(x.rows, w.rows, 3);
    const absl::Status status =
        gpu().kernels().mat_mul(Upload(w, weights_offset), Upload(x).view(), y.view(), stream());
    EXPECT_TRUE(status.ok()) << status;
    return Download(y.view());
  }
};
INSTANTIATE_TEST_SUITE_P(All, GpuMatMulTest, EveryGpu(), GpuName);

constexpr ElementType kTypes[] = {ElementType::kF32, ElementType::kF16, ElementType::kBF16,
                                  ElementType::kQ8_0, ElementType::kQ4_0};

struct Case {
  int64_t rows;
  int64_t cols;
  int64_t tokens;
  int64_t gap_bytes;
  int64_t x_gap;
};

// Whole pieces of rows and rests of them, odd rows, more rows than warps; rows that do not start at multiples
// of 16 bytes, and blocks that do not.
std::vector<Case> CasesOf(ElementType type) {
  std::vector<Case> cases = {{7, 256, 1, 0, 0}, {2, 2592, 1, 0, 0}, {5, 544, 3, 16, 4}, {4, 96, 5, 2, 1}};
  if (type == ElementType::kQ4_0) cases.push_back({101, 2304, 16, 0, 0});
  if (type == ElementType::kF16) cases.push_back({5, 264, 16, 0, 0});
  if (InfoOf(type).block_elements == 1) {
    cases.push_back({3, 37, 2, type == ElementType::kF32 ? 4 : 2, 3});
    cases.push_back({1, 1, 1, 0, 0});
  }
  if (type == ElementType::kF32) cases[3].gap_bytes = 4;
  return cases;
}

TEST_P(GpuMatMulTest, ProductsEqualTheReferenceWhateverTheCompanions) {
  uint32_t seed = 0;
  for (const ElementType type : kTypes) {
    for (const Case& c : CasesOf(type)) {
      SCOPED_TRACE(fmt::format("{} {} x {}, {} tokens", NameOf(type), c.rows, c.cols, c.tokens));
      const RandomWeights weights(type, c.rows, c.cols, ++seed, 0, c.gap_bytes);
      const FloatMatrix x = FloatMatrix::Random(c.tokens, c.cols, seed + 100, c.x_gap);
      const std::vector<float> y = Product(weights.view(), x.view());
      for (int64_t t = 0; t < c.tokens; ++t) {
        for (int64_t r = 0; r<c.rows; r += c.rows> 50 ? 7 : 1) {
          const Sum sum = reference::Dot(weights.view(), r, x.view().row(t));
          ASSERT_NEAR(y[static_cast<size_t>(t * c.rows + r)], sum.value, SumTolerance(c.cols, sum.magnitude))
              << "row " << r << ", token " << t;
        }
      }
      const std::vector<float> alone = Product(weights.view(), x.view().Rows(c.tokens - 1, 1));
      ASSERT_EQ(std::memcmp(alone.data(), y.data() + (c.tokens - 1) * c.rows,
                            static_cast<size_t>(c.rows) * sizeof(float)),
                0);
    }
  }
}

TEST_P(GpuMatMulTest, AlignmentChangesNoBit) {
  for (const ElementType type : {ElementType::kF16, ElementType::kQ8_0, ElementType::kQ4_0}) {
    const RandomWeights weights(type, 6, 768, 5);
    for (const int64_t tokens : {1, 2}) {
      const FloatMatrix x = FloatMatrix::Random(tokens, 768, 6);
      EXPECT_EQ(Product(weights.view(), x.view(), 2), Product(weights.view(), x.view())) << NameOf(type);
    }
  }
}

TEST_P(GpuMatMulTest, LongInputsStayInDeviceMemory) {
  const int64_t cols = 65536;  // 256 KiB, above any block's shared memory
  const RandomWeights weights(ElementType::kQ4_0, 2, cols, 8);
  const FloatMatrix x = FloatMatrix::Random(1, cols, 9);
  const std::vector<float> y = Product(weights.view(), x.view());
  for (int64_t r = 0; r < 2; ++r) {
    const Sum sum = reference::Dot(weights.view(), r, x.view().row(0));
    EXPECT_NEAR(y[static_cast<size_t>(r)], sum.value, SumTolerance(cols, sum.magnitude));
  }
}

TEST_P(GpuMatMulTest, ManyTokensGoInPasses) {
  const RandomWeights weights(ElementType::kQ8_0, 3, 64, 1);
  const FloatMatrix x = FloatMatrix::Random(37, 64, 2);
  const std::vector<float> y = Product(weights.view(), x.view());
  for (const int64_t t : {0, 15, 16, 31, 32, 36}) {
    const std::vector<float> alone = Product(weights.view(), x.view().Rows(t, 1));
    EXPECT_EQ(std::memcmp(alone.data(), y.data() + t * 3, 3 * sizeof(float)), 0) << t;
  }
}

TEST_P(GpuMatMulTest, RefusesWhatItCannotMultiply) {
  const RandomWeights weights(ElementType::kF16, 4, 64, 1);
  const WeightView w = Upload(weights.view());
  const auto x = Poisoned<float>(2, 64), y = Poisoned<float>(2, 4);
  const auto code = [&](const WeightView& a, MatrixView<const float> b, MatrixView<float> c) {
    return gpu().kernels().mat_mul(a, b, c, stream()).code();
  };
  EXPECT_EQ(code(w, Poisoned<float>(2, 63).view(), y.view()), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(w, x.view(), Poisoned<float>(2, 5).view()), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(code(w, x.view(), Poisoned<float>(3, 4).view()), absl::StatusCode::kInvalidArgument);
  WeightView odd = w;
  odd.data += 1;
  EXPECT_EQ(code(odd, x.view(), y.view()), absl::StatusCode::kInvalidArgument);
  WeightView other = w;
  other.type = ElementType::kQ6_K;
  EXPECT_EQ(code(other, x.view(), y.view()), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace thermocline
