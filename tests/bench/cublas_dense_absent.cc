// Builds without the CUDA Toolkit have no cuBLAS to compare with.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/cublas_dense.h"

namespace thermocline::bench {

absl::StatusOr<std::unique_ptr<CublasDense>> OpenCublasDense(Gpu&) {
  return Unimplemented("this build has no cuBLAS");
}

absl::StatusOr<CudaVersions> ReadCudaVersions() { return Unimplemented("this build has no CUDA"); }

}  // namespace thermocline::bench
