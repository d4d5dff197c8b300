// From the scheduler's figures and the placement to the messages of thermocline.v1.AdminService.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "scheduler/scheduler.h"
#include "server/completion_server.h"
#include "thermocline/v1/admin.pb.h"

namespace thermocline {

// mode: NameOf(NeuronMode).
v1::Stats ToMessage(const SchedulerStats& stats, const SchedulerOptions& options, std::string_view mode);
v1::Placement PlacementMessage(const ServedModel& model);

}  // namespace thermocline
