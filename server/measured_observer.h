// MeasureCompletion: an observer that reports to the metrics and passes everything on.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "scheduler/scheduler.h"
#include "server/metrics.h"

namespace thermocline {

// What to give Scheduler::Submit instead of `inner`. `prompt_tokens` are counted when the prompt has been
// computed; of several completions of one prompt (n) give 0 for all but the first, as their usage says too.
// Times count from this call. `metrics` must outlive the observer. What Submit refuses is not seen here: call
// metrics.ObserveRefusal.
std::shared_ptr<CompletionObserver> MeasureCompletion(ServerMetrics& metrics, int64_t prompt_tokens,
                                                      std::shared_ptr<CompletionObserver> inner);

}  // namespace thermocline
