// Counts allocations, for tests that say that something allocates nothing.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace thermocline {

// Calls of operator new on this thread so far. Binaries that link this have their operator new replaced.
int64_t AllocationsOfThisThread();

}  // namespace thermocline
