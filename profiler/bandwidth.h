// Probe of the memory bandwidth that bounds decoding.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>

#include "core/buffer.h"
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

// Measures how fast a team reads from memory: each thread sums its own part of a working set larger than the
// caches, written beforehand. Holds the working set, for measurements between those of other things.
class ReadBandwidthProbe {
 public:
  // The team must outlive the probe. ResourceExhausted when the working set does not fit.
  static absl::StatusOr<ReadBandwidthProbe> Create(const ThreadTeam& team,
                                                   const BandwidthOptions& options = {});

  // Gigabytes (10^9) a second, options.repetitions times.
  Samples Measure() const;

 private:
  ReadBandwidthProbe(const ThreadTeam& team, int repetitions, AlignedBuffer working_set)
      : team_(&team), repetitions_(repetitions), working_set_(std::move(working_set)) {}

  const ThreadTeam* team_;
  int repetitions_;
  AlignedBuffer working_set_;
};

// One such measurement.
absl::StatusOr<Samples> MeasureReadBandwidth(const ThreadTeam& team, const BandwidthOptions& options = {});

}  // namespace thermocline
