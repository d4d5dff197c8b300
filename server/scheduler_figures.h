// From the scheduler's figures to those that Prometheus is given.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "scheduler/scheduler.h"
#include "server/metrics.h"

namespace thermocline {

ScrapedFigures FiguresOf(const SchedulerStats& stats, bool ready);

}  // namespace thermocline
