// The dashboard's page and its live stream, over the puppets.
// SPDX-License-Identifier: Apache-2.0
#include "server/live_feed.h"

#include <absl/strings/escaping.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/server/http_fixture.h"
#include "tests/support/temporary_folder.h"

namespace thermocline::testing {
namespace {

using Json = nlohmann::json;

constexpr char kLive[] = "/thermocline/live";

// One who watches.
class Watcher {
 public:
  explicit Watcher(TestHttpServer& server, const std::string& headers = "") : client_(server.server->port()) {
    EXPECT_TRUE(client_.Send(GetText(kLive, headers)));
    head = client_.ReceiveHead();
  }
  // The next event; null at the stream's end.
  Json Next() {
    while (events_.empty()) {
      const std::string chunk = client_.ReceiveChunk(&ended);
      if (chunk.empty()) return nullptr;
      for (const std::string& event : EventsOf(chunk)) events_.push_back(Json::parse(event));
    }
    Json event = events_.front();
    events_.erase(events_.begin());
    return event;
  }
  Json NextThat(const std::function<bool(const Json&)>& fits) {
    Json event = Next();
    while (!event.is_null() && !fits(event)) event = Next();
    return event;
  }
  void Leave() { client_.Reset(); }

  HttpAnswer head;
  bool ended = false;

 private:
  HttpClient client_;
  std::vector<Json> events_;
};

NeuronActivity SmallActivity() {
  const ModelConfig config{.n_layers = 2, .d_ff = 1024};
  Plan plan{.devices = {{.name = "cpu"}, {.name = "host", .kind = DeviceKind::kHost}}};
  for (int layer = 0; layer < 2; ++layer) {
    PlanLayer placed{.units = {{.device = 0}, {.device = 1}}};
    for (uint32_t i = 0; i < 1024; ++i) placed.units[i < 1000 ? 0 : 1].neurons.push_back(i);
    plan.layers.push_back(std::move(placed));
  }
  return NeuronActivity(config, &plan);
}

TEST(LiveFeedTest, SaysWhatTheModelIsAndThenFigures) {
  NeuronActivity activity = SmallActivity();
  TestHttpServer server({.activity = &activity});
  Watcher watcher(server);
  EXPECT_EQ(watcher.head.status, 200);
  EXPECT_EQ(watcher.head.Header("content-type"), "text/event-stream; charset=utf-8");
  const Json first = watcher.Next();
  EXPECT_EQ(first["type"], "model");
  EXPECT_EQ(first["model"]["name"], "puppet.gguf");
  EXPECT_EQ(first["model"]["columns"], 512);
  EXPECT_EQ(first["model"]["hot"], Json({24, 24}));
  const Json before = watcher.Next();
  EXPECT_EQ(before["type"], "figures");
  EXPECT_EQ(before["figures"]["generated_tokens"], 0);
  EXPECT_EQ(before["figures"]["pages"], server.scheduler.stats().pages);
  EXPECT_FALSE(before.contains("step"));
  ExpectServes(server);
  const Json after = watcher.NextThat([](const Json& event) { return event["figures"]["finished"] == 1; });
  const SchedulerStats stats = server.scheduler.stats();
  EXPECT_EQ(after["figures"]["generated_tokens"], stats.generated_tokens);
  EXPECT_EQ(after["figures"]["active_on_accelerators"], stats.decode_steps.total.active_on_accelerators);
  EXPECT_GE(after["milliseconds"], before["milliseconds"]);
}

TEST(LiveFeedTest, ShowsTheLastStepWhileSomebodyWatches) {
  NeuronActivity activity = SmallActivity();
  TestHttpServer server({.activity = &activity});
  EXPECT_FALSE(activity.watched());
  Watcher watcher(server);
  EXPECT_TRUE(activity.watched());
  watcher.Next();
  activity.BeginStep();
  for (const uint32_t neuron : {1000, 1001, 1023, 0}) activity.Fire(1, neuron);
  activity.EndStep(2, true, {.neurons = 2048, .active_neurons = 4, .active_on_accelerators = 3});
  const auto has_step = [](const Json& event) { return event.contains("step"); };
  const Json step = watcher.NextThat(has_step)["step"];
  EXPECT_EQ(step["step"], 1);
  EXPECT_EQ(step["tokens"], 2);
  EXPECT_EQ(step["active"], 4);
  EXPECT_EQ(step["on_accelerators"], 3);
  std::string counts;
  ASSERT_TRUE(absl::Base64Unescape(step["fired"].get<std::string>(), &counts));
  std::string expected(1024, '\0');
  expected[512 + 0] = 2;   // the accelerator's neurons come first: 1000 and 1001
  expected[512 + 11] = 1;  // 1023, the last of 24
  expected[512 + 12] = 1;  // 0, the first of the others
  EXPECT_EQ(counts, expected);
  // Who comes later sees it too.
  Watcher late(server);
  EXPECT_EQ(late.NextThat(has_step)["step"], step);
  activity.EndStep(1, false, {.neurons = 2048});
  const Json dense = watcher.NextThat(
      [](const Json& event) { return event.contains("step") && event["step"]["step"] == 2; })["step"];
  EXPECT_EQ(dense["known"], false);
  EXPECT_FALSE(dense.contains("fired"));
}

TEST(LiveFeedTest, NothingIsRecordedOnceEverybodyHasGone) {
  NeuronActivity activity = SmallActivity();
  TestHttpServer server({.activity = &activity});
  Watcher one(server), other(server);
  one.Leave();
  other.Leave();
  EXPECT_TRUE(Eventually([&] { return !activity.watched(); }));
  ExpectServes(server);
}

TEST(LiveFeedTest, TooManyWatchersAreRefused) {
  TestHttpServer server;
  std::vector<std::unique_ptr<Watcher>> watchers;
  for (size_t i = 0; i < LiveFeedOptions().max_watchers; ++i) {
    watchers.push_back(std::make_unique<Watcher>(server));
    EXPECT_EQ(watchers.back()->head.status, 200);
  }
  const HttpAnswer refused = Get(server, kLive);
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.Header("retry-after"), "5");
  watchers.front()->Leave();
  EXPECT_TRUE(Eventually([&] { return Watcher(server).head.status == 200; }));
}

TEST(LiveFeedTest, AServerWithoutARecorderShowsFiguresAlone) {
  TestHttpServer server;
  Watcher watcher(server);
  EXPECT_FALSE(watcher.Next()["model"].contains("columns"));
  EXPECT_EQ(watcher.Next()["figures"]["running"], 0);
}

TEST(LiveFeedTest, StreamsEndWhenTheServerDrains) {
  NeuronActivity activity = SmallActivity();
  TestHttpServer server({.activity = &activity});
  Watcher watcher(server);
  EXPECT_TRUE(server.scheduler.Drain(std::chrono::seconds(60)));
  server.server->RefuseNewCalls();
  EXPECT_TRUE(watcher.NextThat([](const Json&) { return false; }).is_null());
  EXPECT_TRUE(watcher.ended);
  EXPECT_FALSE(activity.watched());
  EXPECT_TRUE(server.server->Shutdown(std::chrono::steady_clock::now() + std::chrono::seconds(60)));
}

TEST(LiveFeedTest, HeadAndPostAndQuery) {
  TestHttpServer server;
  HttpClient client(server.server->port());
  ASSERT_TRUE(client.Send(RequestText("HEAD", kLive, "", "")));
  EXPECT_EQ(client.Receive(/*head_only=*/true).status, 200);
  EXPECT_EQ(Post(server, kLive, "{}").status, 405);
}

// ---- Keys

class KeyedTest : public ::testing::Test {
 protected:
  std::string KeyFile(const std::string& name, const std::string& key) {
    const std::string path = folder_.Write(name, key + "\n");
    ::chmod(path.c_str(), 0600);
    return path;
  }
  static std::string Bearer(const std::string& key) { return "Authorization: Bearer " + key + "\r\n"; }

  const std::string completions_key_ = "completions-key-0123", admin_key_ = "admin-key-0123456789";
  const TemporaryFolder folder_;
};

TEST_F(KeyedTest, OnlyAdminKeysOpenTheLiveStream) {
  const auto credentials = *Credentials::Load({.completions_file = KeyFile("completions", completions_key_),
                                               .admin_file = KeyFile("admin", admin_key_)});
  TestHttpServer server({.credentials = credentials.get()});
  EXPECT_EQ(Get(server, kLive).status, 401);
  EXPECT_EQ(Get(server, kLive, Bearer("some-other-key-0123")).status, 401);
  EXPECT_EQ(Get(server, kLive, Bearer(completions_key_)).status, 403);
  EXPECT_EQ(Watcher(server, Bearer(admin_key_)).head.status, 200);
  EXPECT_EQ(Get(server, "/").status, 200);  // the page asks for the key
}

TEST_F(KeyedTest, WithoutAdminKeysTheStreamIsClosedWhereCompletionsAre) {
  const auto credentials = *Credentials::Load({.completions_file = KeyFile("completions", completions_key_)});
  TestHttpServer server({.credentials = credentials.get()});
  EXPECT_EQ(Get(server, kLive, Bearer(completions_key_)).status, 403);
}

// ---- The page

TEST(DashboardPageTest, HoldsStyleAndScriptAndAllowsNothingElse) {
  TestHttpServer server;
  const HttpAnswer page = Get(server, "/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.Header("content-type"), "text/html; charset=utf-8");
  const std::string policy = page.Header("content-security-policy");
  EXPECT_THAT(policy, ::testing::HasSubstr("default-src 'none'; script-src 'sha256-"));
  EXPECT_THAT(policy, ::testing::HasSubstr("connect-src 'self'"));
  EXPECT_THAT(page.body, ::testing::StartsWith("<!DOCTYPE html>"));
  EXPECT_THAT(page.body, ::testing::HasSubstr("class NeuronMap"));
  EXPECT_THAT(page.body, ::testing::HasSubstr("prefers-color-scheme: dark"));
  // The only addresses are names of XML, never fetched.
  std::string rest = page.body;
  for (size_t at = 0; (at = rest.find("http", at)) != std::string::npos; ++at)
    EXPECT_EQ(rest.substr(at, 21), "http://www.w3.org/200");
  EXPECT_EQ(Get(server, "/index.html").status, 404);
}

TEST(DashboardPageTest, IsServedWhileDraining) {
  TestHttpServer server;
  server.runner.HoldAt(2);
  HttpClient runs(server.server->port());
  ASSERT_TRUE(runs.Send(PostText(kCompletions, R"({"prompt": "abc", "max_tokens": 4})")));
  server.runner.WaitUntilHeld();
  server.server->RefuseNewCalls();
  EXPECT_EQ(Get(server, "/").status, 200);
  EXPECT_EQ(Get(server, kLive).status, 503);
  server.runner.Release();
  EXPECT_EQ(runs.Receive().status, 200);
}

}  // namespace
}  // namespace thermocline::testing
