// One request's phases, steps and operators in the trace event format.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/request_trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/status.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;

constexpr int kRequestTrack = 0;
constexpr int kStepTrack = 1;

int TrackOf(int32_t device) { return device + 2; }

std::string LabelOf(const TracedStep& step) {
  if (step.phase == StepPhase::kDecode) return fmt::format("decode at {}", step.first_position);
  return fmt::format("{} {} tokens at {}", step.phase == StepPhase::kPrefill ? "prefill" : "replay",
                     step.n_tokens, step.first_position);
}

}  // namespace

void RequestTrace::EnterPhase(std::string_view name, TimePoint now) {
  if (phase_ == name) return;
  if (phase_.empty() && phases_.empty()) origin_ = now;
  End(now);
  phase_ = name;
  phase_begin_ = now;
  decoding_ |= name == "decode";
}

void RequestTrace::End(TimePoint now) {
  if (phase_.empty()) return;
  if (static_cast<int64_t>(phases_.size()) < limits_.phases) {
    phases_.push_back({std::move(phase_), phase_begin_, now});
  } else {
    ++dropped_phases_;
  }
  phase_.clear();
}

void RequestTrace::AddStep(const TracedStep& step) {
  if (static_cast<int64_t>(steps_.size()) < limits_.steps) {
    steps_.push_back(step);
  } else {
    ++dropped_steps_;
  }
}

void RequestTrace::AddOperators(const OperatorGraph& graph, std::span<const OperatorTiming> timings) {
  const int64_t most = decoding_ ? limits_.operators : limits_.operators / 2;
  if (graph.size() > most - static_cast<int64_t>(operators_.size())) {
    dropped_operators_ += graph.size();
    return;
  }
  for (size_t i = 0; i < timings.size(); ++i) {
    operators_.push_back(EventOf(graph.at(static_cast<OperatorId>(i)), timings[i], origin_));
  }
}

ordered_json RequestTrace::ToJson(std::string_view request_id, std::string_view trace_id,
                                  std::span<const std::string> device_names) const {
  ordered_json events = ordered_json::array();
  AppendProcess(events);
  AppendTrack(kRequestTrack, "request", events);
  AppendTrack(kStepTrack, "its steps", events);
  int32_t n_devices = 0;
  for (const OperatorEvent& event : operators_) n_devices = std::max(n_devices, event.device + 1);
  for (int32_t d = 0; d < n_devices; ++d) {
    const auto index = static_cast<size_t>(d);
    AppendTrack(TrackOf(d), index < device_names.size() ? device_names[index] : fmt::format("device {}", d),
                events);
  }
  for (const Phase& phase : phases_) {
    AppendSpan(kRequestTrack, "phase", phase.name, TraceMicros(phase.begin - origin_),
               TraceMicros(phase.end - phase.begin), ordered_json::object(), events);
  }
  for (const TracedStep& step : steps_) {
    ordered_json args = {{"requests", step.step_requests}, {"tokens", step.step_tokens}};
    if (step.audited) args["audited"] = true;
    AppendSpan(kStepTrack, "step", LabelOf(step), TraceMicros(step.begin - origin_),
               TraceMicros(step.end - step.begin), std::move(args), events);
  }
  for (const OperatorEvent& event : operators_) AppendOperator(TrackOf(event.device), event, events);
  return {{"displayTimeUnit", "ms"},
          {"otherData",
           {{"request_id", request_id},
            {"trace_id", trace_id},
            {"dropped_phases", dropped_phases_},
            {"dropped_steps", dropped_steps_},
            {"dropped_operators", dropped_operators_}}},
          {"traceEvents", std::move(events)}};
}

}  // namespace thermocline
