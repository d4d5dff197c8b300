// The emulated cuBLAS: products of every orientation, and refusal to work without stream and workspace.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "tests/kernels_cuda/emulation_test_support.h"
#include "tests/support/cuda_emulation/cublas_v2.h"

namespace thermocline {
namespace {

class BlasEmulationTest : public EmulationTest {
 protected:
  BlasEmulationTest() { EXPECT_EQ(cublasCreate(&handle_), CUBLAS_STATUS_SUCCESS); }
  ~BlasEmulationTest() override { cublasDestroy(handle_); }
  void MakeReady() {
    ASSERT_EQ(cublasSetStream(handle_, stream()), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasSetWorkspace(handle_, Device<std::byte>(256), 256), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(cublasSetMathMode(handle_, CUBLAS_PEDANTIC_MATH), CUBLAS_STATUS_SUCCESS);
  }
  float* Numbers(const std::vector<float>& values) {
    float* const device = Device<float>(values.size());
    EXPECT_EQ(cudaMemcpyAsync(device, values.data(), values.size() * sizeof(float), cudaMemcpyHostToDevice,
                              stream()),
              cudaSuccess);
    return device;
  }
  cublasHandle_t handle_ = nullptr;
};

// a is (2, 3), b is (3, 2), both by columns; worked out by hand.
TEST_F(BlasEmulationTest, MultipliesByColumns) {
  MakeReady();
  const float alpha = 2, beta = 10;
  float* const a = Numbers({1, 4, 2, 5, 3, 6});             // rows 1 2 3 and 4 5 6
  float* const a_transposed = Numbers({1, 2, 3, 4, 5, 6});  // the same, stored by rows
  float* const b = Numbers({7, 9, 11, 8, 10, 12});          // rows 7 8, 9 10, 11 12
  float* const b_transposed = Numbers({7, 8, 9, 10, 11, 12});
  for (const cublasOperation_t op_a : {CUBLAS_OP_N, CUBLAS_OP_T}) {
    for (const cublasOperation_t op_b : {CUBLAS_OP_N, CUBLAS_OP_T}) {
      float* const c = Numbers({1, 2, -1, 3, 4});  // columns 3 apart
      ASSERT_EQ(cublasSgemm(handle_, op_a, op_b, 2, 2, 3, &alpha, op_a == CUBLAS_OP_N ? a : a_transposed,
                            op_a == CUBLAS_OP_N ? 2 : 3, op_b == CUBLAS_OP_N ? b : b_transposed,
                            op_b == CUBLAS_OP_N ? 3 : 2, &beta, c, 3),
                CUBLAS_STATUS_SUCCESS);
      EXPECT_EQ(Values(c, 5), (std::vector<float>{2 * 58 + 10, 2 * 139 + 20, -1, 2 * 64 + 30, 2 * 154 + 40}));
    }
  }
}

TEST_F(BlasEmulationTest, DoesNotReadWhatBetaZeroesAway) {
  MakeReady();
  const float one = 1, zero = 0;
  float* const c = Device<float>(1);  // NaN
  ASSERT_EQ(cublasSgemm(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, Numbers({3}), 1, Numbers({4}), 1,
                        &zero, c, 1),
            CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(Values(c, 1)[0], 12);
}

TEST_F(BlasEmulationTest, RefusesToWorkUnpreparedOrOnImpossibleShapes) {
  const float one = 1;
  float* const x = Numbers({1, 2, 3, 4});
  const auto multiply = [&](int lda) {
    return cublasSgemm(handle_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, x, lda, x, 2, &one, x, 2);
  };
  EXPECT_EQ(multiply(2), CUBLAS_STATUS_NOT_INITIALIZED);
  MakeReady();
  EXPECT_EQ(multiply(1), CUBLAS_STATUS_INVALID_VALUE);
  ASSERT_EQ(cublasSetStream(handle_, other()), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(2), CUBLAS_STATUS_NOT_INITIALIZED) << "a new stream takes the workspace away";
  MakeReady();
  faults().FailCall("cublasSgemm", 1, EmulatedError::kLaunchFailure);
  EXPECT_EQ(multiply(2), CUBLAS_STATUS_EXECUTION_FAILED);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
}

}  // namespace
}  // namespace thermocline
