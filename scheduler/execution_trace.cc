// The trace event format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
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

constexpr int kProcess = 1;  // events name a process; there is one
constexpr int kStepTrack = 0;

// The track (in the format: thread) of a device.
int TrackOf(int32_t device) { return device + 1; }

// The format's unit, to the nanosecond.
double Micros(Clock::duration duration) {
  const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  return static_cast<double>(nanos) / 1e3;
}

void AddTrack(int track, const std::string& name, ordered_json& events) {
  events.push_back(
      {{"name", "thread_name"}, {"ph", "M"}, {"pid", kProcess}, {"tid", track}, {"args", {{"name", name}}}});
  events.push_back({{"name", "thread_sort_index"},
                    {"ph", "M"},
                    {"pid", kProcess},
                    {"tid", track},
                    {"args", {{"sort_index", track}}}});
}

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
  step.begin_micros = Micros(begin - origin_);
  step.duration_micros = Micros(end - begin);
  step.events.reserve(timings.size());
  for (size_t i = 0; i < timings.size(); ++i) {
    const Operator& traced = graph.at(static_cast<OperatorId>(i));
    const OperatorTiming& timing = timings[i];
    step.events.push_back({.name = traced.name,
                           .layer = traced.layer,
                           .device = traced.device,
                           .begin_micros = Micros(timing.begin - origin_),
                           .duration_micros = Micros(timing.end - timing.begin),
                           .waited_micros = Micros(timing.begin - timing.ready),
                           .skipped = timing.skipped,
                           .handed_over = timing.handed_over});
  }
}

std::string ExecutionTrace::ToJson() const {
  ordered_json events = ordered_json::array();
  events.push_back(
      {{"name", "process_name"}, {"ph", "M"}, {"pid", kProcess}, {"args", {{"name", "thermocline"}}}});
  AddTrack(kStepTrack, "steps", events);
  for (size_t d = 0; d < device_names_.size(); ++d) {
    AddTrack(TrackOf(static_cast<int32_t>(d)), device_names_[d], events);
  }
  for (const Step& step : steps_) {
    events.push_back({{"name", step.label},
                      {"cat", "step"},
                      {"ph", "X"},
                      {"pid", kProcess},
                      {"tid", kStepTrack},
                      {"ts", step.begin_micros},
                      {"dur", step.duration_micros}});
    for (const Event& event : step.events) {
      ordered_json args = ordered_json::object();
      if (event.layer >= 0) args["layer"] = event.layer;
      ordered_json json = {{"name", event.name},
                           {"cat", event.skipped ? "skipped" : "operator"},
                           {"ph", event.skipped ? "i" : "X"},
                           {"pid", kProcess},
                           {"tid", TrackOf(event.device)},
                           {"ts", event.begin_micros}};
      if (event.skipped) {
        json["s"] = "t";  // drawn on its track alone
      } else {
        json["dur"] = event.duration_micros;
        args["waited_us"] = event.waited_micros;
        args["handed_over"] = event.handed_over;
      }
      json["args"] = std::move(args);
      events.push_back(std::move(json));
    }
  }
  const ordered_json trace = {{"displayTimeUnit", "ms"},
                              {"otherData", {{"dropped_steps", dropped_steps_}}},
                              {"traceEvents", std::move(events)}};
  return trace.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

absl::Status ExecutionTrace::Write(const std::string& path) const { return ReplaceFile(path, ToJson()); }

}  // namespace thermocline
