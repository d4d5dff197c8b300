// Several completions of one call: made from one request, admitted together or not at all.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/status.h"
#include "scheduler/scheduler.h"

namespace thermocline {

// Choices of one call, over all of its prompts.
inline constexpr int64_t kMostChoices = 128;

// A FieldError of "n" unless it is in [1, kMostChoices].
absl::Status CheckChoices(int64_t n);

// n times the request; choice i has the seed asked for plus i.
void AppendChoices(const CompletionRequest& request, int64_t n, std::vector<CompletionRequest>& choices);

// Where there are several, makes their ids "id-0", "id-1", ...
void NumberChoices(std::vector<CompletionRequest>& choices);

// One observer a request. When one request is refused, those that were admitted before it are cancelled and
// the status is the refusal's: their observers may hear of deltas and will hear of an end, which they should
// then ignore.
absl::StatusOr<std::vector<RequestHandle>> SubmitAll(
    Scheduler& scheduler, std::vector<CompletionRequest> requests,
    std::span<const std::shared_ptr<CompletionObserver>> observers);

// For the log, which has one line a call: the first choice's summary with the tokens of all.
CompletionSummary SummaryOfAll(std::span<const CompletionSummary> summaries);

}  // namespace thermocline
