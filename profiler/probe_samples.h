// SampleBandwidth: the one way in which the probes of this room time work on memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/samples.h"
#include "core/timer.h"

namespace thermocline {

// GB (10^9 bytes) a second of `work()`, which moves `bytes`: one sample a repetition, on a monotonic clock. A
// call before the first wakes threads and fills caches and page tables. The caller sees to it that the work
// has an effect that can be observed.
template <typename Work>
Samples SampleBandwidth(int repetitions, int64_t bytes, const Work& work) {
  work();
  Samples samples;
  for (int i = 0; i < repetitions; ++i) {
    const Stopwatch watch;
    work();
    samples.values.push_back(static_cast<double>(bytes) / watch.Seconds() * 1e-9);
  }
  return samples;
}

}  // namespace thermocline
