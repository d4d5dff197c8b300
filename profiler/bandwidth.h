// Probe of the memory bandwidth that bounds decoding.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/samples.h"
#include "core/status.h"
#include "core/thread_team.h"

namespace thermocline {

// Four times the last-level cache, at least 256 MiB.
int64_t UncachedWorkingSetBytes();

struct BandwidthOptions {
  int64_t working_set_bytes = 0;  // 0: UncachedWorkingSetBytes()
  int repetitions = 5;
};

// Gigabytes (10^9) a second that the team reads from memory: each thread sums its own part of a working set
// larger than the caches, written beforehand. ResourceExhausted when the working set does not fit.
absl::StatusOr<Samples> MeasureReadBandwidth(const ThreadTeam& team, const BandwidthOptions& options = {});

}  // namespace thermocline
