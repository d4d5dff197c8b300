// The GPU of a build without the CUDA Toolkit.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/gpu.h"

namespace thermocline {

absl::StatusOr<std::unique_ptr<Gpu>> OpenGpu(int) {
  return Unimplemented("this build has no CUDA code: the CUDA Toolkit was not found when it was configured");
}

}  // namespace thermocline
