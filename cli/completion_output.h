// How a completion is shown, whether it was made here or by a server.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "scheduler/request.h"

namespace thermocline {

// Adds a piece to the whole; streams its text to standard output where asked.
void AppendPiece(CompletionDelta piece, bool stream, CompletionDelta& whole);

// The object that --json prints.
nlohmann::ordered_json CompletionJson(const CompletionDelta& whole, const CompletionSummary& summary);

// One line on standard error: tokens, finish reason, times, seed.
void PrintSummary(const CompletionSummary& summary);

}  // namespace thermocline
