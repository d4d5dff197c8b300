// Verifies and times the rungs of problems, and measures what the machine could do.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "core/samples.h"
#include "core/status.h"
#include "tests/bench/ladder/problem.h"

namespace thermocline::ladder {

struct MachinePeaks {
  Samples gflops;              // multiply-adds in registers count as two operations
  Samples read_gb_per_second;  // profiler/bandwidth.h, one thread
  Samples
      copy_gb_per_second;  // of memory, read plus written, by the faster of memcpy and stores past the caches
};

// One thread. set: the instruction set that is timed.
absl::StatusOr<MachinePeaks> MeasurePeaks(const SimdRungs& set);

// Runs every rung against the scalar one. Internal, naming the rung and what it got wrong.
absl::Status VerifyProblem(const Problem& problem);

struct TimingOptions {
  int repetitions = 9;
  double sample_seconds = 5e-3;     // of one sample, at least
  double slow_call_seconds = 0.25;  // calls that take longer are sampled `slow_repetitions` times
  int slow_repetitions = 3;
};

// Times the rungs in turn, so that what changes on the machine meets all of them, by the thread's CPU time:
// {family, problem, operations, bytes, memory_bound, floors{arithmetic_seconds, copy_seconds}, rungs[{name,
// isa, peer, seconds, gflops, gb_per_second, share_of_floor, gain_over_first, gain_over_previous}]}.
nlohmann::ordered_json TimeProblem(const Problem& problem, const MachinePeaks& peaks,
                                   const TimingOptions& options);

}  // namespace thermocline::ladder
