// Several completions of one call: made from one request, numbered, and summed up for the log.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/status.h"
#include "scheduler/request.h"

namespace thermocline {

// Choices of one call, over all of its prompts.
inline constexpr int64_t kMostChoices = 128;

// A FieldError of "n" unless it is in [1, kMostChoices].
absl::Status CheckChoices(int64_t n);

// n times the request; choice i has the seed asked for plus i.
void AppendChoices(const CompletionRequest& request, int64_t n, std::vector<CompletionRequest>& choices);

// Where there are several, makes their ids "id-0", "id-1", ...
void NumberChoices(std::vector<CompletionRequest>& choices);

// For the log, which has one line a call: the first choice's summary with the tokens of all.
CompletionSummary SummaryOfAll(std::span<const CompletionSummary> summaries);

}  // namespace thermocline
