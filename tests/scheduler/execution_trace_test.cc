// The trace is valid JSON with one event for each operator and step, and goes to a file.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/execution_trace.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

namespace thermocline {
namespace {

using nlohmann::json;
using std::chrono::nanoseconds;

std::chrono::steady_clock::time_point At(double micros) {
  return std::chrono::steady_clock::time_point(nanoseconds(static_cast<int64_t>(micros * 1000)));
}

OperatorGraph ThreeOperators() {
  OperatorGraph graph;
  graph.Add({.name = "embedding", .work = [] {}});
  graph.Add({.name = "hot \"neurons\"", .layer = 7, .device = 1, .work = [] {}, .prerequisites = {0}});
  graph.Add({.name = "merge", .layer = 7, .work = [] {}, .prerequisites = {1}});
  return graph;
}

std::vector<OperatorTiming> TimingsFrom(double start) {
  return {{.ready = At(start), .begin = At(start + 1), .end = At(start + 5.25)},
          {.ready = At(start + 5.25), .begin = At(start + 8), .end = At(start + 10.5), .handed_over = true},
          {.ready = At(start + 10.5), .begin = At(start + 10.5), .end = At(start + 10.5), .skipped = true}};
}

// The events with this phase, in the file's order.
std::vector<json> EventsOf(const json& trace, const std::string& phase) {
  std::vector<json> events;
  for (const json& event : trace.at("traceEvents")) {
    if (event.at("ph") == phase) events.push_back(event);
  }
  return events;
}

TEST(ExecutionTrace, HoldsOneEventForEachOperatorAndStep) {
  ExecutionTrace trace({"CPU", "host"});
  const OperatorGraph graph = ThreeOperators();
  trace.AddStep("prefill 3", graph, TimingsFrom(1000));
  trace.AddStep("decode 4", graph, TimingsFrom(1020));
  const json parsed = json::parse(trace.ToJson());

  const std::vector<json> spans = EventsOf(parsed, "X");
  ASSERT_EQ(spans.size(), 6u);  // twice a step and two operators
  EXPECT_EQ(spans[0].at("name"), "prefill 3");
  EXPECT_EQ(spans[0].at("ts"), 0.0);
  EXPECT_EQ(spans[0].at("dur"), 10.5);
  EXPECT_EQ(spans[1].at("name"), "embedding");
  EXPECT_EQ(spans[1].at("ts"), 1.0);
  EXPECT_EQ(spans[1].at("dur"), 4.25);
  EXPECT_FALSE(spans[1].at("args").contains("layer"));
  EXPECT_EQ(spans[2].at("name"), "hot \"neurons\"");
  EXPECT_EQ(spans[2].at("args").at("layer"), 7);
  EXPECT_EQ(spans[2].at("args").at("waited_us"), 2.75);
  EXPECT_EQ(spans[2].at("args").at("handed_over"), true);
  EXPECT_EQ(spans[3].at("name"), "decode 4");
  EXPECT_EQ(spans[3].at("ts"), 20.0);

  const std::vector<json> instants = EventsOf(parsed, "i");
  ASSERT_EQ(instants.size(), 2u);
  EXPECT_EQ(instants[0].at("name"), "merge");
  EXPECT_EQ(instants[0].at("ts"), 10.5);
  EXPECT_FALSE(instants[0].contains("dur"));
}

TEST(ExecutionTrace, NamesATrackForStepsAndForEachDevice) {
  ExecutionTrace trace({"CPU", "host"});
  trace.AddStep("decode", ThreeOperators(), TimingsFrom(0));
  const json parsed = json::parse(trace.ToJson());
  std::map<int, std::string> names;
  for (const json& event : EventsOf(parsed, "M")) {
    if (event.at("name") == "thread_name") names[event.at("tid")] = event.at("args").at("name");
  }
  const std::vector<json> spans = EventsOf(parsed, "X");
  EXPECT_EQ(names.size(), 3u);
  EXPECT_EQ(names.at(spans.at(0).at("tid")), "steps");
  EXPECT_EQ(names.at(spans.at(1).at("tid")), "CPU");
  EXPECT_EQ(names.at(spans.at(2).at("tid")), "host");
}

TEST(ExecutionTrace, KeepsNoMoreStepsThanAllowedAndCountsTheOthers) {
  ExecutionTrace trace({"CPU", "host"}, 2);
  for (int i = 0; i < 5; ++i) trace.AddStep("decode", ThreeOperators(), TimingsFrom(i * 100));
  const json parsed = json::parse(trace.ToJson());
  EXPECT_EQ(EventsOf(parsed, "X").size(), 6u);
  EXPECT_EQ(parsed.at("otherData").at("dropped_steps"), 3);
}

TEST(ExecutionTrace, LabelsOfAnyBytesMakeValidJson) {
  ExecutionTrace trace({"\xff"});
  OperatorGraph graph;
  graph.Add({.name = "half \xe2\x82", .work = [] {}});
  trace.AddStep("\x80", graph, std::vector<OperatorTiming>(1));
  EXPECT_TRUE(json::accept(trace.ToJson()));
}

TEST(ExecutionTrace, WritesTheFileOrNamesIt) {
  const TemporaryFolder folder;
  ExecutionTrace trace({"CPU", "host"});
  trace.AddStep("decode", ThreeOperators(), TimingsFrom(0));
  const std::string path = folder.Path("trace.json");
  ASSERT_TRUE(trace.Write(path).ok());
  std::ifstream file(path);
  EXPECT_EQ(json::parse(file), json::parse(trace.ToJson()));

  const std::string nowhere = folder.Path("no such folder/trace.json");
  const absl::Status refused = trace.Write(nowhere);
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(MessageOf(refused).find(nowhere), std::string_view::npos);
}

}  // namespace
}  // namespace thermocline
