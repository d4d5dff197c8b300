// Steps and their operators in the trace event format.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/execution_trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/replace_file.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

constexpr int kStepTrack = 0;

int TrackOf(int32_t device) { return device + 1; }

}  // namespace

ExecutionTrace::ExecutionTrace(std::vector<std::string> device_names, int64_t max_steps)
    : device_names_(std::move(device_names)), max_steps_(max_steps) {}

void ExecutionTrace::AddStep(std::string_view label, const OperatorGraph& graph,
                             std::span<const OperatorTiming> timings) {
  TC_CHECK(static_cast<size_t>(graph.n_devices()) <= device_names_.size());
  TC_CHECK(static_cast<size_t>(graph.size()) == timings.size());
  if (timings.empty()) return;
  if (static_cast<int64_t>(steps_.size()) >= max_steps_) {
    ++dropped_steps_;
    return;
  }
  Clock::time_point begin = timings[0].ready, end = timings[0].end;
  for (const OperatorTiming& timing : timings) {
    begin = std::min(begin, timing.ready);
    end = std::max(end, timing.end);
  }
  if (steps_.empty()) origin_ = begin;
  Step& step = steps_.emplace_back();
  step.label = label;
  step.begin_micros = TraceMicros(begin - origin_);
  step.duration_micros = TraceMicros(end - begin);
  step.events.reserve(timings.size());
  for (size_t i = 0; i < timings.size(); ++i) {
    step.events.push_back(EventOf(graph.at(static_cast<OperatorId>(i)), timings[i], origin_));
  }
}

std::string ExecutionTrace::ToJson() const {
  ordered_json events = ordered_json::array();
  AppendProcess(events);
  AppendTrack(kStepTrack, "steps", events);
  for (size_t d = 0; d < device_names_.size(); ++d) {
    AppendTrack(TrackOf(static_cast<int32_t>(d)), device_names_[d], events);
  }
  for (const Step& step : steps_) {
    AppendSpan(kStepTrack, "step", step.label, step.begin_micros, step.duration_micros,
               ordered_json::object(), events);
    for (const OperatorEvent& event : step.events) AppendOperator(TrackOf(event.device), event, events);
  }
  const ordered_json trace = {{"displayTimeUnit", "ms"},
                              {"otherData", {{"dropped_steps", dropped_steps_}}},
                              {"traceEvents", std::move(events)}};
  return trace.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

absl::Status ExecutionTrace::Write(const std::string& path) const { return ReplaceFile(path, ToJson()); }

}  // namespace thermocline
