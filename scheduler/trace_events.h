// Pieces of the trace event format, which Perfetto and chrome://tracing read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "scheduler/execution_stats.h"
#include "scheduler/graph.h"

namespace thermocline {

// Events name a process; there is one.
inline constexpr int kTraceProcess = 1;

// One operator's run, as a trace keeps it.
struct OperatorEvent {
  std::string name;
  int32_t layer = -1;
  int32_t device = 0;
  double begin_micros = 0;  // since the trace's origin
  double duration_micros = 0;
  double waited_micros = 0;  // from ready to begin
  bool skipped = false;
  bool handed_over = false;
};
OperatorEvent EventOf(const Operator& traced, const OperatorTiming& timing,
                      std::chrono::steady_clock::time_point origin);

// The format's unit, to the nanosecond.
double TraceMicros(std::chrono::steady_clock::duration duration);

// Appends the process's name; a track's name and place; a span on a track; an operator, a skipped one as an
// instant event. A track is what the format calls a thread.
void AppendProcess(nlohmann::ordered_json& events);
void AppendTrack(int track, const std::string& name, nlohmann::ordered_json& events);
void AppendSpan(int track, const char* category, std::string name, double begin_micros,
                double duration_micros, nlohmann::ordered_json args, nlohmann::ordered_json& events);
void AppendOperator(int track, const OperatorEvent& event, nlohmann::ordered_json& events);

}  // namespace thermocline
