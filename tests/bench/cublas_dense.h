// The dense feed-forward block as cuBLAS computes it: F16 weights and activations, sums in F32.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "kernels_cuda/gpu.h"

namespace thermocline::bench {

// F16 in device memory. The products alone; activation and gating are left out, in cuBLAS' favour.
struct CublasFfn {
  const std::byte* weights = nullptr;  // gate (d_ff, d_model), up if gated, down (d_model, d_ff)
  int64_t d_model = 0;
  int64_t d_ff = 0;
  bool gated = false;
  int64_t tokens = 0;
  const std::byte* x = nullptr;  // (tokens, d_model)
  std::byte* hidden = nullptr;   // (2, tokens, d_ff)
  std::byte* y = nullptr;        // (tokens, d_model)

  int64_t weight_bytes() const { return (gated ? 3 : 2) * d_model * d_ff * 2; }
};

class CublasDense {
 public:
  virtual ~CublasDense() = default;
  virtual absl::Status FeedForward(const CublasFfn& ffn, GpuStream stream) = 0;
};

// For the device that `gpu` opened, which must outlive it. Unimplemented without the toolkit.
absl::StatusOr<std::unique_ptr<CublasDense>> OpenCublasDense(Gpu& gpu);

struct CudaVersions {
  int driver = 0;  // 13000: CUDA 13.0
  int runtime = 0;
  int cublas = 0;
};
absl::StatusOr<CudaVersions> ReadCudaVersions();

}  // namespace thermocline::bench
