// Figures and placement through a real channel.
// SPDX-License-Identifier: Apache-2.0
#include "server/admin_service.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>

#include <future>
#include <optional>

#include "tests/server/server_fixture.h"

namespace thermocline::testing {
namespace {

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

v1::Stats StatsOf(TestServer& server) {
  grpc::ClientContext context;
  v1::GetStatsResponse response;
  const grpc::Status status = server.admin->GetStats(&context, v1::GetStatsRequest(), &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response.stats();
}

TEST(GetStats, OfAnIdleServerIsZero) {
  TestServer server;
  const auto expected = Parse<v1::Stats>(R"pb(
    mode: "predicted"
    sparsity {}
    audit { recall: 1 top1_agreement: 1 }
    execution {}
    kv_cache { tokens_per_page: 16 pages: 1024 }
    steps {})pb");
  EXPECT_EQ(StatsOf(server).DebugString(), expected.DebugString());
}

TEST(GetStats, AddsUpWhatRequestsDid) {
  TestServer server({.predicts = true, .audit_every = 2});
  // After the beginning-of-text token and three letters, decode steps at positions 4 to 6 and 4: audits at 5
  // and at 4.
  v1::CompleteRequest request = TextRequest("abc", 4);
  request.set_quality(v1::QUALITY_FAST);
  ASSERT_TRUE(Complete(server, request).status.ok());
  ASSERT_TRUE(Complete(server, TextRequest("abc", 2)).status.ok());
  const auto expected = Parse<v1::Stats>(R"pb(
    requests_finished: 2
    generated_tokens: 6
    mode: "predicted"
    sparsity {
      tokens: 4
      neurons: 400
      marked: 50
      active: 32
      active_on_accelerators: 20
      bytes_per_token: 312.5
    }
    audit { every: 2 tokens: 2 recall: 0.8125 kl_mean: 0.25 kl_max: 0.5 top1_agreement: 0.5 }
    execution {
      steps: 6
      operators: 60
      skipped_operators: 6
      hand_overs: 12
      overlap_ratio: 0.75
      busy_seconds: [ 12, 6 ]
      link_bytes: 600
    }
    prompt_tokens: 8
    kv_cache { tokens_per_page: 16 pages: 1024 prefix_queried_tokens: 8 }
    steps { prefill: 2 decode: 4 last_requests: 1 last_tokens: 1 })pb");
  v1::Stats stats = StatsOf(server);
  EXPECT_DOUBLE_EQ(stats.execution().mean_hand_over_micros(), 2);
  stats.mutable_execution()->clear_mean_hand_over_micros();  // of seconds that no binary number is equal to
  EXPECT_EQ(stats.DebugString(), expected.DebugString());
}

TEST(GetStats, SeesWhatRunsAndWaits) {
  TestServer server;
  server.runner.HoldAt(2);
  BackgroundCall running(server, TextRequest("abc", 3));
  server.runner.WaitUntilHeld();
  BackgroundCall waiting(server, TextRequest("abc", 3));  // until the held step is over
  EXPECT_TRUE(Eventually([&] { return StatsOf(server).requests_waiting() == 1; }));
  const v1::Stats stats = StatsOf(server);
  EXPECT_EQ(stats.requests_running(), 1);
  EXPECT_EQ(stats.requests_finished(), 0u);
  EXPECT_EQ(stats.execution().steps(), 1u);  // the prompt's; the held step is not over
}

// Clients that ask all the time, while a completion runs: the sanitizers watch.
TEST(GetStats, IsSafeWhileStepsAreComputed) {
  TestServer server({.predicts = true, .audit_every = 1});
  BackgroundCall running(server, TextRequest("abc", 2000));
  uint64_t steps = 0;
  while (StatsOf(server).requests_finished() == 0) {
    const v1::Stats stats = StatsOf(server);
    EXPECT_GE(stats.execution().steps(), steps);
    EXPECT_EQ(stats.audit().tokens(), stats.sparsity().tokens());
    steps = stats.execution().steps();
  }
  EXPECT_TRUE(running.Wait().status.ok());
  EXPECT_EQ(StatsOf(server).audit().tokens(), 1999);
}

TEST(GetStats, AnswersWhileTheServerDrains) {
  TestServer server;
  server.runner.HoldAt(2);
  BackgroundCall running(server, TextRequest("abc", 3));
  server.runner.WaitUntilHeld();
  auto drained = std::async(std::launch::async, [&] { return server.server->Shutdown(); });
  // A completion that came too early would wait behind the one that is held.
  EXPECT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    v1::DetokenizeResponse text;
    return server.stub->Detokenize(&context, v1::DetokenizeRequest(), &text).error_code() ==
           grpc::StatusCode::UNAVAILABLE;
  }));
  EXPECT_EQ(StatsOf(server).requests_running(), 1);
  server.runner.Release();
  EXPECT_TRUE(drained.get());
}

// The figures of one watch, read one by one.
class StatsWatch {
 public:
  StatsWatch(TestServer& server, const std::string& request)
      : reader_(server.admin->WatchStats(&context_, Parse<v1::WatchStatsRequest>(request))) {}
  std::optional<v1::Stats> Next() {
    v1::WatchStatsResponse response;
    if (!reader_->Read(&response)) return std::nullopt;
    return response.stats();
  }
  void Cancel() { context_.TryCancel(); }
  grpc::Status Finish() { return reader_->Finish(); }
  std::string Field() const { return TrailingMetadata(context_, "thermocline-field"); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReader<v1::WatchStatsResponse>> reader_;
};

TEST(WatchStats, SendsFiguresUntilTheServerDrains) {
  TestServer server;
  StatsWatch watch(server, "interval { nanos: 100000000 }");
  StatsWatch slow(server, "interval { seconds: 60 }");
  ASSERT_EQ(watch.Next()->requests_finished(), 0U);
  ASSERT_TRUE(slow.Next());
  ASSERT_TRUE(Complete(server, TextRequest("abc", 2)).status.ok());
  for (auto stats = watch.Next(); stats && stats->requests_finished() == 0;) stats = watch.Next();
  server.server->RefuseNewCalls();
  // At once, though its minute is not over.
  EXPECT_EQ(slow.Next()->requests_finished(), 1U);
  EXPECT_FALSE(slow.Next());
  EXPECT_TRUE(slow.Finish().ok());
  while (watch.Next()) {
  }
  EXPECT_TRUE(watch.Finish().ok());
  // A later one says how things are, and ends.
  StatsWatch late(server, "");
  EXPECT_EQ(late.Next()->requests_finished(), 1U);
  while (late.Next()) {
  }
  EXPECT_TRUE(late.Finish().ok());
}

TEST(WatchStats, ClientThatLeavesEndsItsWatchAlone) {
  TestServer server;
  {
    StatsWatch leaves(server, "interval { seconds: 60 }");
    ASSERT_TRUE(leaves.Next());
    leaves.Cancel();
    EXPECT_EQ(leaves.Finish().error_code(), grpc::CANCELLED);
  }
  // Its line in the log comes when the server is done with it.
  EXPECT_TRUE(Eventually([&] { return !server.Log().empty(); }));
  StatsWatch stays(server, "");
  EXPECT_TRUE(stays.Next());
}

TEST(WatchStats, IntervalOutOfRangeIsRefused) {
  TestServer server;
  for (const char* interval :
       {"nanos: 99999999", "seconds: 61", "seconds: 60 nanos: 1000000", "seconds: -1", "nanos: -1",
        "seconds: 9223372036854775807 nanos: 999999999", "nanos: 1000000000", ""}) {
    StatsWatch watch(server, std::string("interval {") + interval + "}");
    EXPECT_FALSE(watch.Next());
    EXPECT_EQ(watch.Finish().error_code(), grpc::INVALID_ARGUMENT) << interval;
    EXPECT_EQ(watch.Field(), "interval");
  }
}

TEST(GetPlacement, TellsDevicesAndHotNeurons) {
  TestServer server;
  grpc::ClientContext context;
  v1::GetPlacementResponse response;
  ASSERT_TRUE(server.admin->GetPlacement(&context, v1::GetPlacementRequest(), &response).ok());
  const auto expected = Parse<v1::Placement>(R"pb(
    devices { name: "cpu" kind: DEVICE_KIND_CPU used_bytes: 1000 }
    devices { name: "host" kind: DEVICE_KIND_HOST emulated: true used_bytes: 300 budget_bytes: 400 }
    neurons_per_layer: 256
    hot_neurons: [ 100, 56 ])pb");
  EXPECT_EQ(response.placement().DebugString(), expected.DebugString());
}

}  // namespace
}  // namespace thermocline::testing
