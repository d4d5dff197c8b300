// Clients that go away in every phase, slow readers, a full queue, groups of choices, and the server's end.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <thread>

#include "server/request_traces.h"
#include "tests/server/http_fixture.h"

namespace thermocline::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Where a completion is when its client goes away. The puppet takes 16 tokens of the prompt a call.
struct Phase {
  const char* name;
  int prompt_letters;
  int64_t held_call;
};
enum class Farewell { kClose, kReset, kShutdownWrite };

class GoneTest : public ::testing::TestWithParam<std::tuple<Phase, bool, Farewell>> {};
INSTANTIATE_TEST_SUITE_P(
    Phases, GoneTest,
    ::testing::Combine(::testing::Values(Phase{"Prefill", 79, 2}, Phase{"Decode", 3, 6}), ::testing::Bool(),
                       ::testing::Values(Farewell::kClose, Farewell::kReset, Farewell::kShutdownWrite)));

TEST_P(GoneTest, EndsTheCompletionWithinAStep) {
  const auto& [phase, stream, farewell] = GetParam();
  TestHttpServer server;
  server.runner.HoldAt(phase.held_call);
  const nlohmann::json body = {{"prompt", std::string(static_cast<size_t>(phase.prompt_letters), 'a')},
                               {"max_tokens", 1000},
                               {"stream", stream},
                               {"n", 2}};
  HttpClient client(server.server->port());
  ASSERT_TRUE(client.Send(PostText(kCompletions, body.dump())));
  server.runner.WaitUntilHeld();
  if (farewell == Farewell::kClose) client.Close();
  if (farewell == Farewell::kReset) client.Reset();
  if (farewell == Farewell::kShutdownWrite) client.ShutdownWrite();
  ASSERT_TRUE(Eventually([&] { return server.server->stats().cancelled_calls == 1; }));
  server.runner.Release();
  ASSERT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.runner.forward_calls(), phase.held_call);
  EXPECT_EQ(server.scheduler.stats().running, 0);
  EXPECT_EQ(server.scheduler.stats().waiting, 0);
  ASSERT_TRUE(Eventually([&] { return server.server->http_stats().connections == 0; }));
  EXPECT_THAT(server.Log().at(0), HasSubstr("CANCELLED"));
  ExpectServes(server);
}

TEST(HttpLifecycleTest, ClientsThatGoWhileTheyWaitNeverRun) {
  TestHttpServer server;
  server.runner.HoldAt(1);
  HttpClient runs(server.server->port());
  ASSERT_TRUE(runs.Send(PostText(kCompletions, R"({"prompt": "abc", "max_tokens": 2, "temperature": 0})")));
  server.runner.WaitUntilHeld();
  {
    HttpClient waits(server.server->port());
    ASSERT_TRUE(waits.Send(PostText(kCompletions, R"({"prompt": "abc", "n": 3})")));
    ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().waiting == 3; }));
  }
  ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().waiting == 0; }));
  server.runner.Release();
  EXPECT_EQ(runs.Receive().Json()["choices"][0]["text"], "de");
  EXPECT_EQ(server.runner.forward_calls(), 2);
}

TEST(HttpLifecycleTest, ReadersThatAreTooSlowAreLetGo) {
  HttpSetup setup;
  setup.context_length = 1 << 20;
  setup.options.http.max_unread_bytes = 64 << 10;
  TestHttpServer server(setup);
  HttpClient client(server.server->port(), /*receive_buffer_bytes=*/4096);
  const std::string body = R"({"prompt": "abc", "max_tokens": 1000000, "stream": true, "ignore_eos": true})";
  ASSERT_TRUE(client.Send(PostText(kCompletions, body)));
  EXPECT_EQ(client.ReceiveHead().status, 200);
  // Reads no more: the sockets' buffers fill, then the server's own.
  ASSERT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.server->stats().cancelled_calls, 1u);
  EXPECT_LT(server.scheduler.stats().generated_tokens, 1'000'000u);
  bool whole = false;
  while (!client.ReceiveChunk(&whole).empty()) {
  }
  EXPECT_FALSE(whole);  // what it gets does not look complete
  ExpectServes(server);
}

// Its own bytes wait for nobody else.
TEST(HttpLifecycleTest, SlowReadersDelayNobody) {
  HttpSetup setup;
  setup.context_length = 1 << 16;
  setup.options.http.max_unread_bytes = 64 << 20;
  TestHttpServer server(setup);
  HttpClient slow(server.server->port(), /*receive_buffer_bytes=*/4096);
  const std::string body = R"({"prompt": "abc", "max_tokens": 5000, "stream": true, "temperature": 0})";
  ASSERT_TRUE(slow.Send(PostText(kCompletions, body)));
  EXPECT_EQ(slow.ReceiveHead().status, 200);
  ExpectServes(server);
  HttpAnswer answer;
  for (std::string chunk = slow.ReceiveChunk(&answer.whole); !chunk.empty();
       chunk = slow.ReceiveChunk(&answer.whole)) {
    answer.body += chunk;
  }
  EXPECT_TRUE(answer.whole);
  EXPECT_EQ(EventsOf(answer.body).back(), "[DONE]");
}

TEST(HttpLifecycleTest, StreamsOfOneTimeDoNotMix) {
  HttpSetup setup;
  setup.max_queued_requests = 64;
  TestHttpServer server(setup);
  std::vector<std::thread> clients;
  std::vector<std::string> texts(16);
  for (size_t i = 0; i < texts.size(); ++i) {
    clients.emplace_back([&, i] {
      const nlohmann::json body = {{"prompt", std::string(1, static_cast<char>('a' + i))},
                                   {"max_tokens", 20 + i},
                                   {"stream", true},
                                   {"temperature", 0}};
      const HttpAnswer answer = Post(server, kCompletions, body.dump());
      for (const std::string& event : EventsOf(answer.body)) {
        if (event != "[DONE]") texts[i] += nlohmann::json::parse(event)["choices"][0]["text"];
      }
    });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < texts.size(); ++i) {
    std::string expected;
    for (size_t k = 1; k <= 20 + i; ++k) expected += static_cast<char>('a' + (i + k) % 26);
    EXPECT_EQ(texts[i], expected);
  }
}

TEST(HttpLifecycleTest, AFullQueueSaysWhenToComeBack) {
  HttpSetup setup;
  setup.max_queued_requests = 2;
  TestHttpServer server(setup);
  server.runner.HoldAt(1);
  HttpClient runs(server.server->port());
  ASSERT_TRUE(runs.Send(PostText(kCompletions, R"({"prompt": "abc", "max_tokens": 2, "temperature": 0})")));
  server.runner.WaitUntilHeld();
  HttpClient waits(server.server->port());
  ASSERT_TRUE(waits.Send(PostText(kCompletions, R"({"prompt": "x", "max_tokens": 1, "temperature": 0})")));
  ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().waiting == 1; }));
  // A group is admitted whole or not at all: there is room for one.
  const HttpAnswer refused = Post(server, kCompletions, R"({"prompt": "abc", "n": 2})");
  EXPECT_EQ(refused.status, 429);
  EXPECT_GE(std::stoi(refused.Header("retry-after")), 1);
  EXPECT_EQ(refused.Error()["type"], "rate_limit_error");
  EXPECT_EQ(refused.Error()["code"], "rate_limit_exceeded");
  EXPECT_EQ(server.scheduler.stats().waiting, 1);
  // A stream that is refused is an error like any other.
  EXPECT_EQ(Post(server, kCompletions, R"({"prompt": "abc", "n": 2, "stream": true})").status, 429);
  // What the queue never takes is no matter of coming back.
  const HttpAnswer never = Post(server, kCompletions, R"({"prompt": "abc", "n": 3})");
  EXPECT_EQ(never.status, 400);
  EXPECT_EQ(never.Error()["param"], "n");
  server.runner.Release();
  EXPECT_EQ(runs.Receive().Json()["choices"][0]["text"], "de");
  EXPECT_EQ(waits.Receive().Json()["choices"][0]["text"], "y");
}

TEST(HttpLifecycleTest, SilentStreamsGetComments) {
  HttpSetup setup;
  setup.options.http.stream_keepalive = std::chrono::milliseconds(5);
  TestHttpServer server(setup);
  server.runner.HoldAt(1);
  HttpClient runs(server.server->port()), waits(server.server->port());
  const std::string request =
      PostText(kCompletions, R"({"prompt": "abc", "max_tokens": 2, "temperature": 0, "stream": true})");
  ASSERT_TRUE(runs.Send(request));
  server.runner.WaitUntilHeld();
  ASSERT_TRUE(waits.Send(request));
  // While the one's prompt is computed and while the other waits.
  for (HttpClient* client : {&runs, &waits}) {
    EXPECT_EQ(client->ReceiveHead().status, 200);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(client->ReceiveChunk(), ": keep-alive\n\n");
  }
  server.runner.Release();
  for (HttpClient* client : {&runs, &waits}) {
    std::string body;
    bool whole = false;
    for (std::string chunk; !(chunk = client->ReceiveChunk(&whole)).empty();) body += chunk;
    EXPECT_TRUE(whole);
    EXPECT_THAT(body, ::testing::EndsWith("data: [DONE]\n\n"));
    // The connection is good for more; an answer that is no stream gets none.
    ASSERT_TRUE(client->Send(GetText("/health")));
    EXPECT_EQ(client->Receive().Json()["status"], "ok");
  }
}

TEST(HttpLifecycleTest, TracesAreInTheFirstChoiceAndBoundedInNumber) {
  RequestTraces traces(/*most=*/1);
  HttpSetup setup;
  setup.predicts = true;
  setup.traces = &traces;
  TestHttpServer server(setup);
  server.runner.HoldAt(1);
  HttpClient runs(server.server->port());
  const std::string body = R"({"prompt": "abc", "max_tokens": 3, "n": 2, "temperature": 0, "trace": true)";
  ASSERT_TRUE(runs.Send(PostText(kCompletions, body + "}", "x-request-id: mine\r\n")));
  server.runner.WaitUntilHeld();
  const HttpAnswer refused = Post(server, kCompletions, body + "}");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.Header("retry-after"), "1");
  server.runner.Release();
  const nlohmann::json choices = runs.Receive().Json()["choices"];
  const nlohmann::json& trace = choices[0]["thermocline"]["trace"];
  EXPECT_EQ(trace["otherData"]["request_id"], "mine");
  EXPECT_FALSE(choices[1]["thermocline"].contains("trace"));
  EXPECT_EQ(choices[0]["thermocline"]["sparsity"]["audited_tokens"], 0);
  EXPECT_TRUE(choices[0]["thermocline"]["sparsity"]["predictor_recall"].is_null());
  std::vector<std::string> phases;
  for (const nlohmann::json& event : trace["traceEvents"]) {
    if (event.value("cat", "") == "phase") phases.push_back(event["name"]);
  }
  EXPECT_THAT(phases, ::testing::ElementsAre("queued", "prefill", "decode"));

  // The answer gives the place back.
  const std::vector<std::string> events =
      EventsOf(Post(server, kCompletions, body + R"(, "stream": true})").body);
  int traced = 0;
  for (const std::string& event : events) traced += event.find("traceEvents") != std::string::npos;
  EXPECT_EQ(traced, 1);
}

TEST(HttpLifecycleTest, TracesAreNotGivenUnlessTheServerIsToldTo) {
  TestHttpServer server;
  const HttpAnswer refused = Post(server, kCompletions, R"({"prompt": "abc", "trace": true})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(refused.Error()["param"], "trace");
}

TEST(HttpLifecycleTest, FailuresOfTheModelAreErrorsOfTheServer) {
  TestHttpServer server;
  server.runner.FailAfter(PuppetTokenizer::IdOf('f'), Internal("the device is lost"));
  const HttpAnswer whole = Post(server, kCompletions, R"({"prompt": "abc", "temperature": 0})");
  EXPECT_EQ(whole.status, 500);
  EXPECT_EQ(whole.Error()["type"], "server_error");
  const HttpAnswer stream =
      Post(server, kCompletions, R"({"prompt": "abc", "temperature": 0, "stream": true, "n": 2})");
  EXPECT_EQ(stream.status, 200);
  EXPECT_TRUE(stream.whole);
  const std::vector<std::string> events = EventsOf(stream.body);
  EXPECT_EQ(nlohmann::json::parse(events.back())["error"]["message"], "the device is lost");
  EXPECT_THAT(events, Not(::testing::Contains("[DONE]")));
  ASSERT_TRUE(server.WaitUntilIdle());
}

TEST(HttpLifecycleTest, ALostDeviceShowsInItsHealth) {
  TestHttpServer server;
  server.runner.LoseDeviceAt(2);
  EXPECT_EQ(Post(server, kCompletions, R"({"prompt": "abc", "temperature": 0})").status / 100, 5);
  ASSERT_TRUE(Eventually([&] { return !server.scheduler.health().ok(); }));
  const HttpAnswer health = Get(server, "/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.Json()["status"], "failed");
  EXPECT_EQ(Post(server, kCompletions, R"({"prompt": "abc"})").status, 503);
}

TEST(HttpLifecycleTest, DrainsWhileStreamsRun) {
  TestHttpServer server;
  server.runner.HoldAt(4);
  HttpClient runs(server.server->port());
  HttpClient idle(server.server->port());
  ASSERT_TRUE(idle.Send(GetText("/health")));
  EXPECT_EQ(idle.Receive().status, 200);
  ASSERT_TRUE(runs.Send(
      PostText(kCompletions, R"({"prompt": "abc", "max_tokens": 6, "stream": true, "temperature": 0})")));
  server.runner.WaitUntilHeld();
  server.server->RefuseNewCalls();
  EXPECT_TRUE(idle.IsClosed());
  const HttpAnswer refused = Post(server, kCompletions, R"({"prompt": "abc"})");
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.Header("retry-after"), "1");
  EXPECT_EQ(refused.Header("connection"), "close");
  const HttpAnswer health = Get(server, "/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.Json()["status"], "draining");
  EXPECT_EQ(Get(server, "/metrics").status, 200);
  server.runner.Release();
  EXPECT_TRUE(server.scheduler.Drain(std::chrono::seconds(60)));
  EXPECT_TRUE(server.server->Shutdown(std::chrono::steady_clock::now() + std::chrono::seconds(60)));
  const HttpAnswer answer = runs.Receive();
  EXPECT_TRUE(answer.whole);
  EXPECT_EQ(EventsOf(answer.body).back(), "[DONE]");
  EXPECT_THROW(HttpClient(server.server->port()), std::runtime_error);
}

TEST(HttpLifecycleTest, ShutdownCutsShortWhatDoesNotEnd) {
  TestHttpServer server;
  server.runner.HoldAt(4);
  HttpClient runs(server.server->port());
  ASSERT_TRUE(runs.Send(PostText(kCompletions, R"({"prompt": "abc", "max_tokens": 600, "stream": true})")));
  server.runner.WaitUntilHeld();
  std::thread releases([&] {
    EXPECT_TRUE(Eventually([&] { return server.server->stats().cancelled_calls == 1; }));
    server.runner.Release();
  });
  EXPECT_FALSE(server.server->Shutdown(std::chrono::steady_clock::now()));
  releases.join();
  EXPECT_FALSE(runs.Receive().whole);
  EXPECT_EQ(server.runner.forward_calls(), 4);
}

TEST(HttpLifecycleTest, ServersEndWithConnectionsInEveryState) {
  TestHttpServer server;
  HttpClient silent(server.server->port());
  HttpClient halfway(server.server->port());
  ASSERT_TRUE(halfway.Send("POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"));
  server.runner.HoldAt(2);
  HttpClient runs(server.server->port());
  ASSERT_TRUE(runs.Send(PostText(kCompletions, R"({"prompt": "abc", "n": 4})")));
  server.runner.WaitUntilHeld();
  std::thread releases([&] {
    EXPECT_EQ(runs.Receive().status, 0);
    server.runner.Release();
  });
  server.server.reset();
  releases.join();
}

}  // namespace
}  // namespace thermocline::testing
