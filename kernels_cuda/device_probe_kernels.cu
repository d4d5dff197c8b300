// The kernels of the device probe: one empty, one that signals the host.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cuda/device_probe_kernels.h"

namespace thermocline {
namespace {

__global__ void Nothing() {}

__global__ void Signal(volatile uint32_t* word, uint32_t value) {
  *word = value;
  __threadfence_system();
}

}  // namespace

cudaError_t LaunchNothing(cudaStream_t stream) {
  Nothing<<<1, 1, 0, stream>>>();
  return cudaGetLastError();
}

cudaError_t LaunchSignal(uint32_t* word, uint32_t value, cudaStream_t stream) {
  Signal<<<1, 1, 0, stream>>>(word, value);
  return cudaGetLastError();
}

}  // namespace thermocline
