// CompletionObserver: who hears what a request gives out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/status.h"
#include "scheduler/request.h"

namespace thermocline {

using RequestHandle = uint64_t;

// Receives one request's results, on the scheduler's thread; must not block. OnFinish comes exactly once and
// last; of a request that is cancelled while it waits, on the thread that cancels it.
class CompletionObserver {
 public:
  virtual ~CompletionObserver() = default;
  virtual void OnDelta(CompletionDelta delta) = 0;
  // Cancelled, DeadlineExceeded, Unavailable (shutting down, or the device was lost) or what the model runner
  // failed with.
  virtual void OnFinish(absl::StatusOr<CompletionSummary> result) = 0;
};

}  // namespace thermocline
