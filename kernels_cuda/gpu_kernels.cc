// What every build knows of the GPU's kernels, with CUDA or without.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/gpu_kernels.h"

namespace thermocline {

bool IsGpuType(ElementType type) {
  switch (type) {
    case ElementType::kF32:
    case ElementType::kF16:
    case ElementType::kBF16:
    case ElementType::kQ8_0:
    case ElementType::kQ4_0:
      return true;
    default:
      return false;
  }
}

}  // namespace thermocline
