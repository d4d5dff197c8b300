// SubmitAll: several completions that are admitted together or not at all.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "core/status.h"
#include "scheduler/scheduler.h"

namespace thermocline {

// One observer a request. When one request is refused, those that were admitted before it are cancelled and
// the status is the refusal's: their observers may hear of deltas and will hear of an end, which they should
// then ignore.
absl::StatusOr<std::vector<RequestHandle>> SubmitAll(
    Scheduler& scheduler, std::vector<CompletionRequest> requests,
    std::span<const std::shared_ptr<CompletionObserver>> observers);

}  // namespace thermocline
