// From the scheduler's figures to those that Prometheus is given.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "scheduler/scheduler.h"
#include "server/completion_server.h"
#include "server/metrics.h"

namespace thermocline {

// `devices`: the runner's, in their order.
ScrapedFigures FiguresOf(const SchedulerStats& stats, std::span<const ServedDevice> devices, bool ready);

}  // namespace thermocline
