// ExecutionTrace: operator timings as a file for chrome://tracing and Perfetto.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "scheduler/execution_stats.h"
#include "scheduler/graph.h"
#include "scheduler/trace_events.h"

namespace thermocline {

class ExecutionTrace {
 public:
  // device_names: (devices), as the trace shows them; AddStep takes no graph of more (TC_CHECK). At most
  // max_steps steps are kept; later ones are counted only.
  ExecutionTrace(std::vector<std::string> device_names, int64_t max_steps = 1024);

  // Keeps what ran; skipped operators come as instant events. `label`: "prefill 128", "decode 17".
  void AddStep(std::string_view label, const OperatorGraph& graph, std::span<const OperatorTiming> timings);

  // The trace event format as JSON: a track of steps and one a device.
  std::string ToJson() const;

  // The same as a file, written beside and renamed.
  absl::Status Write(const std::string& path) const;

 private:
  struct Step {
    std::string label;
    double begin_micros = 0;
    double duration_micros = 0;
    std::vector<OperatorEvent> events;
  };
  std::vector<std::string> device_names_;
  int64_t max_steps_;
  int64_t dropped_steps_ = 0;
  std::chrono::steady_clock::time_point origin_;
  std::vector<Step> steps_;
};

}  // namespace thermocline
