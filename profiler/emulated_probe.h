// The emulated accelerator ("host"): a thread in an accelerator's place, and the probe of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <memory>
#include <thread>

#include "core/handover.h"
#include "core/status.h"
#include "profiler/hardware.h"

namespace thermocline {

// A thread that runs operators one by one as they are posted. Each side waits for the other as the executors
// of the scheduler do (core/handover.h).
class EmulatedAccelerator {
 public:
  // ResourceExhausted when there is no thread to be had.
  static absl::StatusOr<std::unique_ptr<EmulatedAccelerator>> Create();
  ~EmulatedAccelerator();
  EmulatedAccelerator(const EmulatedAccelerator&) = delete;
  EmulatedAccelerator& operator=(const EmulatedAccelerator&) = delete;

  // Runs the operator on the accelerator's thread and waits until it is done. One caller at a time.
  void Run(absl::FunctionRef<void()> work);

 private:
  EmulatedAccelerator() = default;
  void Loop();

  const absl::FunctionRef<void()>* work_ = nullptr;  // null: stop
  Handover posted_;                                  // operators handed over; publishes work_
  Handover finished_;                                // operators handed back
  uint32_t runs_ = 0;                                // of Run
  std::thread thread_;
};

struct EmulatedProbeOptions {
  int64_t working_set_bytes = 0;  // of reads and of each copy; 0: UncachedWorkingSetBytes()
  int repetitions = 5;
};

// Measures the emulated accelerator as an AcceleratorProfile with `emulated` set; memory_bytes is the
// machine's. All of it is the CPU's memory:
//   read    its thread alone sums a working set that it allocated and first touched
//   links   its thread copies a working set between a buffer of the caller's and one of its own; "pinned" is
//           the same memory locked, where the process may lock that much, else just the same memory
//   launch  from before the hand-over to the first instruction of the operator on the thread
//   sync    from before the hand-over of an empty operator to its return, the thread having been handed over
// Launch and sync samples are each the median of 200 hand-overs, one after the other, so that both sides find
// each other looking, not asleep. ResourceExhausted when working set or thread are not to be had.
absl::StatusOr<AcceleratorProfile> ProbeEmulatedAccelerator(const EmulatedProbeOptions& options);

}  // namespace thermocline
