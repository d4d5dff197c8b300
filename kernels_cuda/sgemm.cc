// Products of F32 matrices through cuBLAS.
// SPDX-License-Identifier: Apache-2.0
//
// cuBLAS takes matrices by columns. A row-major (rows, cols) view with a stride is a (cols, rows) matrix by
// columns whose leading dimension is the stride, so the transposed products are computed: transpose(c) =
// op(w) * transpose(x).
#include <limits>

#include "kernels_cuda/gpu_cuda.h"
#include "kernels_cuda/launch_checks.h"
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {
namespace {

// cuBLAS wants a leading dimension of at least the columns even where there is one row and no stride.
template <typename T>
absl::StatusOr<int> LeadingDimension(std::string_view name, const MatrixView<T>& view) {
  const int64_t leading = view.stride < view.cols ? view.cols : view.stride;
  if (leading > std::numeric_limits<int>::max())
    return InvalidArgument("{}: rows stand {} apart, cuBLAS takes up to {}", name, leading,
                           std::numeric_limits<int>::max());
  return static_cast<int>(leading);
}

// c = alpha * x * op(w) + beta * c, of views whose shapes fit.
absl::Status Multiply(Gpu& gpu, float alpha, MatrixView<const float> x, MatrixView<const float> w,
                      cublasOperation_t op_w, float beta, MatrixView<float> c, GpuStream stream) {
  TC_ASSIGN_OR_RETURN(const int w_leading, LeadingDimension("sgemm: w", w));
  TC_ASSIGN_OR_RETURN(const int x_leading, LeadingDimension("sgemm: x", x));
  TC_ASSIGN_OR_RETURN(const int c_leading, LeadingDimension("sgemm: c", c));
  TC_ASSIGN_OR_RETURN(const cublasHandle_t handle, CublasOn(gpu, stream));
  TC_CUBLAS_RETURN_IF_ERROR(cublasSgemm(handle, op_w, CUBLAS_OP_N, static_cast<int>(c.cols),
                                        static_cast<int>(c.rows), static_cast<int>(x.cols), &alpha, w.data,
                                        w_leading, x.data, x_leading, &beta, c.data, c_leading));
  return absl::OkStatus();
}

}  // namespace

absl::Status SgemmNt(Gpu& gpu, float alpha, MatrixView<const float> x, MatrixView<const float> w, float beta,
                     MatrixView<float> c, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckView("sgemm_nt: x", x));
  TC_RETURN_IF_ERROR(CheckView("sgemm_nt: w", w, w.rows, x.cols));
  TC_RETURN_IF_ERROR(CheckView("sgemm_nt: c", c, x.rows, w.rows));
  return Multiply(gpu, alpha, x, w, CUBLAS_OP_T, beta, c, stream);
}

absl::Status SgemmNn(Gpu& gpu, float alpha, MatrixView<const float> h, MatrixView<const float> w, float beta,
                     MatrixView<float> c, GpuStream stream) {
  TC_RETURN_IF_ERROR(CheckView("sgemm_nn: h", h));
  TC_RETURN_IF_ERROR(CheckView("sgemm_nn: w", w, h.cols, w.cols));
  TC_RETURN_IF_ERROR(CheckView("sgemm_nn: c", c, h.rows, w.cols));
  return Multiply(gpu, alpha, h, w, CUBLAS_OP_N, beta, c, stream);
}

}  // namespace thermocline::TC_GPU_NAMESPACE
