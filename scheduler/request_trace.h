// RequestTrace: what happened to one request, as a file for Perfetto: phases, steps, operators of the first
// steps.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/execution_stats.h"
#include "scheduler/graph.h"
#include "scheduler/step_plan.h"
#include "scheduler/trace_events.h"

namespace thermocline {

// Most of what a trace keeps, so that its JSON stays below 640 KiB whatever the request is; what comes later
// is counted.
struct RequestTraceLimits {
  int64_t phases = 64;
  int64_t steps = 512;
  int64_t operators = 2048;  // of whole steps; those of prompts may take half of them
};

// A step that the request took part in.
struct TracedStep {
  StepPhase phase = StepPhase::kPrefill;
  std::chrono::steady_clock::time_point begin;
  std::chrono::steady_clock::time_point end;
  int64_t first_position = 0;  // of the request's tokens in it
  int64_t n_tokens = 0;
  int64_t step_requests = 0;  // that shared the step
  int64_t step_tokens = 0;
  bool audited = false;
};

// The scheduler writes it from a request's admission to its end; whoever asked for the request reads it when
// that has ended well. Not thread-safe.
class RequestTrace {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit RequestTrace(RequestTraceLimits limits = {}) : limits_(limits) {}

  // The request is in this phase from `now` on, and no longer in the one before: "queued", "prefill",
  // "decode". The first begins the trace; the same phase again is nothing.
  void EnterPhase(std::string_view name, TimePoint now);
  void End(TimePoint now);

  void AddStep(const TracedStep& step);
  // Of a step, or a part of one, that the request takes part in.
  void AddOperators(const OperatorGraph& graph, std::span<const OperatorTiming> timings);

  // The trace event format. Tracks: the request's phases, its steps, and one a device with operators.
  // device_names: as many as are known, the CPU first.
  nlohmann::ordered_json ToJson(std::string_view request_id, std::string_view trace_id,
                                std::span<const std::string> device_names) const;

 private:
  struct Phase {
    std::string name;
    TimePoint begin, end;
  };

  const RequestTraceLimits limits_;
  TimePoint origin_;
  std::string phase_;  // that it is in; empty before the first and behind the end
  TimePoint phase_begin_;
  std::vector<Phase> phases_;  // that are over
  std::vector<TracedStep> steps_;
  std::vector<OperatorEvent> operators_;
  bool decoding_ = false;  // or has decoded
  int64_t dropped_phases_ = 0;
  int64_t dropped_steps_ = 0;
  int64_t dropped_operators_ = 0;
};

}  // namespace thermocline
