// The table of the backend's launchers.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/launchers.h"

namespace thermocline::TC_GPU_NAMESPACE {

const GpuKernels kKernels = {
    .gated_activation = GatedActivation,
    .add = Add,
};

}  // namespace thermocline::TC_GPU_NAMESPACE
