// The trace event format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/trace_events.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace thermocline {

using nlohmann::ordered_json;

double TraceMicros(std::chrono::steady_clock::duration duration) {
  const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
  return static_cast<double>(nanos) / 1e3;
}

OperatorEvent EventOf(const Operator& traced, const OperatorTiming& timing,
                      std::chrono::steady_clock::time_point origin) {
  return {.name = traced.name,
          .layer = traced.layer,
          .device = traced.device,
          .begin_micros = TraceMicros(timing.begin - origin),
          .duration_micros = TraceMicros(timing.end - timing.begin),
          .waited_micros = TraceMicros(timing.begin - timing.ready),
          .skipped = timing.skipped,
          .handed_over = timing.handed_over};
}

void AppendProcess(ordered_json& events) {
  events.push_back(
      {{"name", "process_name"}, {"ph", "M"}, {"pid", kTraceProcess}, {"args", {{"name", "thermocline"}}}});
}

void AppendTrack(int track, const std::string& name, ordered_json& events) {
  events.push_back({{"name", "thread_name"},
                    {"ph", "M"},
                    {"pid", kTraceProcess},
                    {"tid", track},
                    {"args", {{"name", name}}}});
  events.push_back({{"name", "thread_sort_index"},
                    {"ph", "M"},
                    {"pid", kTraceProcess},
                    {"tid", track},
                    {"args", {{"sort_index", track}}}});
}

void AppendSpan(int track, const char* category, std::string name, double begin_micros,
                double duration_micros, ordered_json args, ordered_json& events) {
  ordered_json json = {{"name", std::move(name)}, {"cat", category}, {"ph", "X"},
                       {"pid", kTraceProcess},    {"tid", track},    {"ts", begin_micros},
                       {"dur", duration_micros}};
  if (!args.empty()) json["args"] = std::move(args);
  events.push_back(std::move(json));
}

void AppendOperator(int track, const OperatorEvent& event, ordered_json& events) {
  ordered_json args = ordered_json::object();
  if (event.layer >= 0) args["layer"] = event.layer;
  ordered_json json = {{"name", event.name},
                       {"cat", event.skipped ? "skipped" : "operator"},
                       {"ph", event.skipped ? "i" : "X"},
                       {"pid", kTraceProcess},
                       {"tid", track},
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

}  // namespace thermocline
