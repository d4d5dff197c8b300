// How an emulated device comes to be. Only for files of the emulation.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/emulated_gpu.h"

namespace thermocline::cuda_emulation {

// A new device; its ordinal.
int AddEmulatedDevice(const EmulatedGpuOptions& options);

}  // namespace thermocline::cuda_emulation
