// Stands for the CUDA Toolkit's header of this name where the backend is emulated.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/support/cuda_emulation/cuda_runtime_api.h"  // IWYU pragma: export
