// --audit-every: how often a predicted token is computed exactly too.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

#include "core/status.h"
#include "scheduler/scheduler.h"

namespace thermocline {

// Its default is what the options hold.
void AddAuditFlag(CLI::App& command, SchedulerOptions& options);

// FieldError for what is out of range.
absl::Status CheckAuditFlag(const SchedulerOptions& options);

}  // namespace thermocline
