// Products through cuBLAS: both orders, strides, alpha and beta.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels_cpu/isa_test_support.h"
#include "tests/kernels_cuda/gpu_fixture.h"
#include "tests/support/reference_data.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;

class GpuSgemmTest : public GpuTest {};
INSTANTIATE_TEST_SUITE_P(All, GpuSgemmTest, EveryGpu(), GpuName);

struct Shape {
  int64_t tokens, inner, outer;
};
constexpr Shape kShapes[] = {{1, 1, 1}, {5, 33, 17}, {64, 96, 40}, {3, 200, 1}, {1, 7, 129}};

// c = alpha * x * w + beta * c, w given by columns where transposed.
void ExpectProduct(const FloatMatrix& x, const FloatMatrix& w, bool transposed, float alpha, float beta,
                   const FloatMatrix& before, const std::vector<float>& result) {
  for (int64_t t = 0; t < before.view().rows; ++t) {
    for (int64_t r = 0; r < before.view().cols; ++r) {
      double sum = 0.0;
      for (int64_t c = 0; c < x.view().cols; ++c)
        sum += double{x.view().row_data(t)[c]} *
               (transposed ? w.view().row_data(r)[c] : w.view().row_data(c)[r]);
      const double old = beta == 0.0f ? 0.0 : beta * double{before.view().row_data(t)[r]};
      const auto inner = static_cast<double>(x.view().cols);
      ASSERT_NEAR(result[static_cast<size_t>(t * before.view().cols + r)], alpha * sum + old,
                  SumTolerance(x.view().cols + 2, 4.0 * inner))
          << "row " << t << ", column " << r;
    }
  }
}

TEST_P(GpuSgemmTest, EqualsTheReferenceInBothOrders) {
  for (const Shape shape : kShapes) {
    for (const bool transposed : {true, false}) {
      for (const float beta : {0.0f, 0.5f}) {
        const FloatMatrix x = FloatMatrix::Random(shape.tokens, shape.inner, 1, 3);
        const FloatMatrix w = transposed ? FloatMatrix::Random(shape.outer, shape.inner, 2, 1)
                                         : FloatMatrix::Random(shape.inner, shape.outer, 2, 1);
        // With beta 0, NaN there must not matter.
        const FloatMatrix before = beta == 0.0f ? FloatMatrix::Poisoned(shape.tokens, shape.outer, 2)
                                                : FloatMatrix::Random(shape.tokens, shape.outer, 3, 2);
        const MatrixView<float> c = Upload(before.view()).view();
        const auto multiply = transposed ? gpu().kernels().sgemm_nt : gpu().kernels().sgemm_nn;
        ASSERT_EQ(multiply(gpu(), 1.5f, Upload(x.view()).view(), Upload(w.view()).view(), beta, c, stream()),
                  absl::OkStatus());
        ExpectProduct(x, w, transposed, 1.5f, beta, before, Download(c));
      }
    }
  }
}

TEST_P(GpuSgemmTest, AFailedCallIsTheStatus) {
  if (!emulated()) GTEST_SKIP() << "faults are planned on the emulated device only";
  const MatrixView<float> x = Upload(FloatMatrix::Random(4, 4, 1).view()).view();
  faults()->FailCall("cublasSgemm", 1, EmulatedError::kInvalidValue);
  const absl::Status status = gpu().kernels().sgemm_nt(gpu(), 1.0f, x, x, 0.0f, x, stream());
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  ExpectRefusal(status, {"cublasSgemm"});
}

TEST_P(GpuSgemmTest, RefusesShapesThatDoNotFit) {
  const MatrixView<float> x = Upload(FloatMatrix::Random(2, 6, 1).view()).view();
  const MatrixView<float> w = Upload(FloatMatrix::Random(6, 6, 2).view()).view();
  const auto nt = [&](MatrixView<const float> a, MatrixView<const float> b, MatrixView<float> c,
                      const std::vector<std::string>& words) {
    ExpectRefusal(gpu().kernels().sgemm_nt(gpu(), 1.0f, a, b, 0.0f, c, stream()), words);
  };
  nt(x, w.Columns(0, 5), x, {"w is 6 x 5, needed is 6 x 6"});
  nt(x, w, x.Columns(0, 5), {"c is 2 x 5, needed is 2 x 6"});
  nt({nullptr, 2, 6, 6}, w, x, {"x lies at"});
  nt({x.data, 2, 6, int64_t{1} << 31}, w, x, {"rows stand 2147483648 apart"});
  const auto nn = [&](MatrixView<const float> h, MatrixView<const float> b, MatrixView<float> c,
                      const std::vector<std::string>& words) {
    ExpectRefusal(gpu().kernels().sgemm_nn(gpu(), 1.0f, h, b, 0.0f, c, stream()), words);
  };
  nn(x, w.Rows(0, 5), x, {"w is 5 x 6, needed is 6 x 6"});
  nn(x, w.Columns(0, 4), x, {"c is 2 x 6, needed is 2 x 4"});
}

}  // namespace
}  // namespace thermocline
