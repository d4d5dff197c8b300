// The two kernels that latencies are measured with. Only for files of this room.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace thermocline {

// Launches a kernel that does nothing. The error is the launch's.
cudaError_t LaunchNothing(cudaStream_t stream);

// Launches a kernel that stores `value` to `word`, an address of the device's in mapped host memory, so that
// the host sees it while the kernel runs.
cudaError_t LaunchSignal(uint32_t* word, uint32_t value, cudaStream_t stream);

}  // namespace thermocline
