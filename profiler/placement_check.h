// What a placement problem must be like before it is solved.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/status.h"
#include "profiler/placement.h"

namespace thermocline {

// InvalidArgument naming field, value and limit.
absl::Status CheckPlacementProblem(const PlacementProblem& problem);

}  // namespace thermocline
