// A request's trace: phases, steps and operators, within its bounds, by hand and through the scheduler.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/request_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "scheduler/scheduler.h"
#include "tests/support/puppet_requests.h"
#include "tests/support/puppet_runner.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/recorder.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;
using ::testing::ElementsAre;
using testing::Prompt;
using testing::PuppetRunner;
using testing::PuppetTokenizer;
using testing::Recorder;
using namespace std::chrono_literals;

// Bytes that docs/serving.md promises.
constexpr size_t kMostTraceBytes = 640 << 10;

std::chrono::steady_clock::time_point At(int64_t micros) {
  return std::chrono::steady_clock::time_point(std::chrono::microseconds(micros));
}

// Names of the events of that category.
std::vector<std::string> NamesOf(const ordered_json& trace, const std::string& category) {
  std::vector<std::string> names;
  for (const ordered_json& event : trace.at("traceEvents")) {
    if (event.contains("cat") && event["cat"] == category) names.push_back(event["name"]);
  }
  return names;
}

std::vector<std::string> TracksOf(const ordered_json& trace) {
  std::vector<std::string> names;
  for (const ordered_json& event : trace.at("traceEvents")) {
    if (event["name"] == "thread_name") names.push_back(event["args"]["name"]);
  }
  return names;
}

OperatorGraph GraphOf(int64_t n_operators, const std::string& name = "neurons") {
  OperatorGraph graph;
  for (int64_t i = 0; i < n_operators; ++i) graph.Add({.name = name, .layer = 1'000, .work = [] {}});
  return graph;
}

TEST(RequestTrace, PhasesFollowOneAnother) {
  RequestTrace trace;
  trace.EnterPhase("queued", At(100));
  trace.EnterPhase("prefill", At(130));
  trace.EnterPhase("prefill", At(135));
  trace.EnterPhase("decode", At(170));
  trace.End(At(200));
  trace.End(At(300));
  const ordered_json json = trace.ToJson("id \"1\"\n", "t", {});
  EXPECT_THAT(NamesOf(json, "phase"), ElementsAre("queued", "prefill", "decode"));
  const ordered_json& prefill = json["traceEvents"][6];
  EXPECT_EQ(prefill["name"], "prefill");
  EXPECT_EQ(prefill["ts"], 30);
  EXPECT_EQ(prefill["dur"], 40);
  EXPECT_EQ(json["otherData"]["request_id"], "id \"1\"\n");
  EXPECT_EQ(ordered_json::parse(json.dump()), json);
}

TEST(RequestTrace, KeepsWholeStepsOfOperatorsAndLeavesHalfToDecoding) {
  RequestTrace trace({.operators = 10});
  const OperatorGraph graph = GraphOf(3);
  const std::vector<OperatorTiming> timings(3);
  trace.EnterPhase("prefill", At(0));
  trace.AddOperators(graph, timings);
  trace.AddOperators(graph, timings);  // only 2 of 5 places are left
  EXPECT_EQ(NamesOf(trace.ToJson("", "", {}), "operator").size(), 3u);
  trace.EnterPhase("decode", At(1));
  for (int step = 0; step < 4; ++step) trace.AddOperators(graph, timings);
  const ordered_json json = trace.ToJson("", "", std::vector<std::string>{"cpu"});
  EXPECT_EQ(NamesOf(json, "operator").size(), 9u);
  EXPECT_EQ(json["otherData"]["dropped_operators"], 3 + 2 * 3);
  EXPECT_THAT(TracksOf(json), ElementsAre("request", "its steps", "cpu"));
}

TEST(RequestTrace, StaysWithinItsBoundsWhateverHappens) {
  RequestTrace trace;
  // As many digits as a server has that runs for years, and names that are longer than any.
  const auto late = [](int64_t i) { return At(100'000'000'000'000 + 1'234'567 * i); };
  const OperatorGraph graph = GraphOf(64, "a long operator's name");
  std::vector<OperatorTiming> timings(64);
  for (OperatorTiming& timing : timings)
    timing = {.ready = late(1), .begin = late(2) + 123ns, .end = late(3) + 789ns, .handed_over = true};
  trace.EnterPhase("queued", At(0));
  for (int64_t i = 0; i < 2'000; ++i) {
    trace.EnterPhase(i % 2 == 0 ? "decode" : "queued", late(i));
    trace.AddStep({.phase = StepPhase::kReplay,
                   .begin = late(i) + 123ns,
                   .end = late(i + 1) + 456ns,
                   .first_position = 1'000'000,
                   .n_tokens = 1'000'000,
                   .step_requests = 1'000'000,
                   .step_tokens = 1'000'000,
                   .audited = true});
    trace.AddOperators(graph, timings);
  }
  trace.End(late(3'000));
  const ordered_json json =
      trace.ToJson(std::string(4'096, 'x'), std::string(32, 'f'), std::vector<std::string>{"cpu"});
  EXPECT_LT(json.dump().size(), kMostTraceBytes);
  EXPECT_EQ(NamesOf(json, "phase").size(), 64u);
  EXPECT_EQ(NamesOf(json, "step").size(), 512u);
  EXPECT_EQ(NamesOf(json, "operator").size(), 2'048u);
  EXPECT_EQ(json["otherData"]["dropped_phases"], 2'001 - 64);
  EXPECT_EQ(json["otherData"]["dropped_steps"], 2'000 - 512);
  EXPECT_EQ(json["otherData"]["dropped_operators"], 64 * (2'000 - 32));
}

TEST(RequestTrace, TheSchedulerTellsWhatHappened) {
  PuppetTokenizer tokenizer;
  PuppetRunner runner(/*context_length=*/64, /*max_step_tokens=*/4, /*predicts=*/true);
  Scheduler scheduler(runner, tokenizer, {.audit_every = 2});
  const auto recorder = std::make_shared<Recorder>();
  CompletionRequest request = Prompt("abcdef", 4);
  const auto trace = std::make_shared<RequestTrace>();
  request.trace = trace;
  ASSERT_TRUE(scheduler.Submit(std::move(request), recorder).ok());
  ASSERT_TRUE(recorder->Wait().ok());
  const ordered_json json = trace->ToJson("r", "t", std::vector<std::string>{"cpu"});
  EXPECT_THAT(NamesOf(json, "phase"), ElementsAre("queued", "prefill", "decode"));
  EXPECT_THAT(NamesOf(json, "step"), ElementsAre("prefill 4 tokens at 0", "prefill 2 tokens at 4",
                                                 "decode at 6", "decode at 7", "decode at 8"));
  EXPECT_EQ(NamesOf(json, "operator").size(), 2 * 5u);
  EXPECT_THAT(TracksOf(json), ElementsAre("request", "its steps", "cpu", "device 1"));
  int audited = 0;
  for (const ordered_json& event : json["traceEvents"])
    audited += event.contains("args") && event["args"].contains("audited");
  EXPECT_EQ(audited, 1);
}

TEST(RequestTrace, ARequestThatLostItsPagesWaitsAgain) {
  PuppetTokenizer tokenizer;
  // One page is left for the second of each, which the first takes.
  PuppetRunner runner(/*context_length=*/32, /*max_step_tokens=*/8, /*predicts=*/false, /*n_kv_pages=*/3);
  Scheduler scheduler(runner, tokenizer);
  runner.HoldAt(1);
  const auto first = std::make_shared<Recorder>(), second = std::make_shared<Recorder>();
  ASSERT_TRUE(scheduler.Submit(Prompt("abc", 20), first).ok());
  runner.WaitUntilHeld();
  CompletionRequest request = Prompt("mno", 20);
  const auto trace = std::make_shared<RequestTrace>();
  request.trace = trace;
  ASSERT_TRUE(scheduler.Submit(std::move(request), second).ok());
  runner.Release();
  ASSERT_TRUE(first->Wait().ok());
  ASSERT_TRUE(second->Wait().ok());
  ASSERT_EQ(scheduler.stats().preemptions, 1u);
  EXPECT_THAT(NamesOf(trace->ToJson("", "", {}), "phase"),
              ElementsAre("queued", "prefill", "decode", "queued", "prefill", "decode"));
}

}  // namespace
}  // namespace thermocline
