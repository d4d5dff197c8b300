// How a completion is shown, whether it was made here or by a server.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "scheduler/request.h"
#include "scheduler/step_figures.h"

namespace thermocline {

// Adds a piece to the whole; streams its text to standard output where asked.
void AppendPiece(CompletionDelta piece, bool stream, CompletionDelta& whole);

// The object that --json prints.
nlohmann::ordered_json CompletionJson(const CompletionDelta& whole, const CompletionSummary& summary);

// Its "audit": tokens, recall, kl_mean, kl_max, top1_agreement.
nlohmann::ordered_json AuditJson(const AuditSums& audits);

// On standard error: tokens, finish reason, times, seed; a second line on neurons where any was looked at.
void PrintSummary(const CompletionSummary& summary);
// One line on standard error.
void PrintAudits(const AuditSums& audits);

}  // namespace thermocline
