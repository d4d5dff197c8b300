// The backend's launchers, one for each entry of GpuKernels. Only for files of this room.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels_cuda/backend.h"
#include "kernels_cuda/gpu_kernels.h"

namespace thermocline::TC_GPU_NAMESPACE {

// The table of all launchers below.
extern const GpuKernels kKernels;

// What each does stands in gpu_kernels.h.
absl::Status Add(MatrixView<const float> y, MatrixView<float> x, GpuStream stream);
absl::Status GatedActivation(GpuActivationFunction activation, MatrixView<const float> gate,
                             MatrixView<const float> up, MatrixView<float> hidden, GpuStream stream);

}  // namespace thermocline::TC_GPU_NAMESPACE
