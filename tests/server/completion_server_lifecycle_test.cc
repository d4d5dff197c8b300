// Calls that end early, a full queue, and the server's end.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <future>

#include "server/completion_server.h"
#include "tests/server/server_fixture.h"

namespace thermocline::testing {
namespace {

using std::chrono::milliseconds;
using ::testing::SizeIs;

// Long enough for a call to reach a busy machine's server, which it must before it can end there.
constexpr milliseconds kShortDeadline{500};

// Where a completion is when its client goes away. The puppet takes 16 tokens of the prompt a call.
struct Phase {
  const char* name;
  int prompt_letters;
  int64_t held_call;
};

class EarlyEndTest : public ::testing::TestWithParam<std::tuple<Phase, Call>> {
 protected:
  static v1::CompleteRequest Request() {
    return TextRequest(std::string(static_cast<size_t>(std::get<0>(GetParam()).prompt_letters), 'a'), 1000);
  }
  static int64_t HeldCall() { return std::get<0>(GetParam()).held_call; }
  static Call Kind() { return std::get<1>(GetParam()); }
};
INSTANTIATE_TEST_SUITE_P(Phases, EarlyEndTest,
                         ::testing::Combine(::testing::Values(Phase{"Prefill", 79, 2}, Phase{"Decode", 3, 6}),
                                            ::testing::Values(&CompleteWith, &StreamWith)),
                         [](const auto& instance) {
                           return std::string(std::get<0>(instance.param).name) +
                                  (std::get<1>(instance.param) == &StreamWith ? "Stream" : "Unary");
                         });

TEST_P(EarlyEndTest, CancelEndsTheCompletionWithinAStep) {
  TestServer server;
  server.runner.HoldAt(HeldCall());
  BackgroundCall call(server, Request(), Kind());
  server.runner.WaitUntilHeld();
  call.Cancel();
  EXPECT_EQ(call.Wait().status.error_code(), grpc::CANCELLED);
  ASSERT_TRUE(Eventually([&] { return server.server->stats().cancelled_calls == 1; }));
  server.runner.Release();
  ASSERT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.runner.forward_calls(), HeldCall());
  EXPECT_EQ(server.scheduler.stats().running, 0);
  ExpectServes(server);
}

TEST_P(EarlyEndTest, DeadlineEndsTheCompletionWithinAStep) {
  TestServer server;
  ExpectServes(server);  // the connection stands before the clock runs
  const int64_t held_call = server.runner.forward_calls() + HeldCall();
  server.runner.HoldAt(held_call);
  BackgroundCall call(server, Request(), Kind(), kShortDeadline);
  server.runner.WaitUntilHeld();
  EXPECT_EQ(call.Wait().status.error_code(), grpc::DEADLINE_EXCEEDED);
  ASSERT_TRUE(Eventually([&] { return server.server->stats().cancelled_calls == 1; }));
  server.runner.Release();
  ASSERT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.runner.forward_calls(), held_call);
  ExpectServes(server);
}

TEST(Queue, CancelAndDeadlineFreeThePlaceInTheQueue) {
  TestServer server;
  server.runner.HoldAt(1);
  BackgroundCall running(server, TextRequest("abc", 2));
  server.runner.WaitUntilHeld();
  {
    BackgroundCall cancelled(server, TextRequest("x", 2));
    BackgroundCall late(server, TextRequest("y", 2), &CompleteWith, kShortDeadline);
    ASSERT_TRUE(Eventually([&] {
      return server.scheduler.stats().waiting == 2 || server.server->stats().cancelled_calls == 1;
    }));
    cancelled.Cancel();
    EXPECT_EQ(cancelled.Wait().status.error_code(), grpc::CANCELLED);
    EXPECT_EQ(late.Wait().status.error_code(), grpc::DEADLINE_EXCEEDED);
  }
  // While the first one still runs.
  EXPECT_TRUE(Eventually([&] { return server.scheduler.stats().waiting == 0; }));
  EXPECT_TRUE(Eventually([&] { return server.server->stats().active_calls == 1; }));
  server.runner.Release();
  EXPECT_EQ(running.Wait().text, "de");
  EXPECT_EQ(server.runner.forward_calls(), 2);
}

TEST(Queue, FullQueueRefusesAtOnceAndKeepsWhatItAdmitted) {
  TestServer server({.max_queued_requests = 1});
  server.runner.HoldAt(1);
  BackgroundCall running(server, TextRequest("abc", 2));
  server.runner.WaitUntilHeld();
  BackgroundCall waiting(server, TextRequest("x", 2));
  ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().waiting == 1; }));
  for (const Call call : {&CompleteWith, &StreamWith}) {
    grpc::ClientContext context;
    const Outcome refused = call(server, TextRequest("z", 2), context);
    EXPECT_EQ(refused.status.error_code(), grpc::RESOURCE_EXHAUSTED);
    EXPECT_EQ(refused.pushback, "1000");
  }
  server.runner.Release();
  EXPECT_EQ(running.Wait().text, "de");
  EXPECT_EQ(waiting.Wait().text, "yz");
}

TEST(Deadline, FarAwayMeansNone) {
  TestServer server;
  const auto longest = std::chrono::system_clock::time_point::max() - std::chrono::hours(1);
  grpc::ClientContext context;
  context.set_deadline(longest);
  const Outcome outcome = CompleteWith(server, TextRequest("abc", 2), context);
  EXPECT_EQ(outcome.text, "de") << outcome.status.error_message();
}

TEST(Shutdown, FinishesWhatRunsAndRefusesWhatIsNew) {
  TestServer server;
  HealthCall watch(server.channel, "/grpc.health.v1.Health/Watch",
                   HealthRequest("thermocline.v1.CompletionService"));
  google::protobuf::Int32Value health;
  ASSERT_TRUE(watch.Read(health));
  EXPECT_EQ(health.value(), kServing);

  server.runner.HoldAt(3);
  BackgroundCall running(server, TextRequest("abc", 5));
  server.runner.WaitUntilHeld();
  BackgroundCall waiting(server, TextRequest("x", 2), &CompleteWith);
  ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().waiting == 1; }));
  std::future<bool> clean = std::async(std::launch::async, [&] { return server.server->Shutdown(); });

  ASSERT_TRUE(watch.Read(health));
  EXPECT_EQ(health.value(), kNotServing);
  HealthCall check(server.channel, "/grpc.health.v1.Health/Check", HealthRequest(""));
  ASSERT_TRUE(check.Read(health));
  EXPECT_EQ(health.value(), kNotServing);

  const auto refuses_all = [&] {
    grpc::ClientContext contexts[3];
    v1::TokenizeResponse tokens;
    v1::DetokenizeResponse text;
    v1::GetModelResponse model;
    return Complete(server, TextRequest("z", 1)).status.error_code() == grpc::UNAVAILABLE &&
           Stream(server, TextRequest("z", 1)).status.error_code() == grpc::UNAVAILABLE &&
           server.stub->Tokenize(&contexts[0], {}, &tokens).error_code() == grpc::UNAVAILABLE &&
           server.stub->Detokenize(&contexts[1], {}, &text).error_code() == grpc::UNAVAILABLE &&
           server.stub->GetModel(&contexts[2], {}, &model).error_code() == grpc::UNAVAILABLE;
  };
  // The first refusal shows that the drain has begun; nothing is admitted after it.
  ASSERT_TRUE(Eventually([&] {
    grpc::ClientContext context;
    v1::GetModelResponse model;
    return !server.stub->GetModel(&context, {}, &model).ok();
  }));
  EXPECT_TRUE(refuses_all());

  server.runner.Release();
  EXPECT_EQ(running.Wait().text, "defgh");
  EXPECT_TRUE(running.Wait().status.ok());
  EXPECT_EQ(waiting.Wait().text, "yz");
  EXPECT_TRUE(clean.get());
  EXPECT_TRUE(server.server->Shutdown());  // again
  EXPECT_FALSE(watch.Read(health));
}

TEST(Shutdown, TimeoutCutsShortWhatStillRuns) {
  // Completions that take far longer than the timeout.
  TestServer server({.context_length = 100'000, .shutdown_timeout = milliseconds(50)});
  BackgroundCall streamed(server, TextRequest("abc", 99'000));
  BackgroundCall unary(server, TextRequest("x", 99'000), &CompleteWith);
  ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().running == 2; }));
  EXPECT_FALSE(server.server->Shutdown());
  EXPECT_EQ(streamed.Wait().status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(unary.Wait().status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(server.server->stats().active_calls, 0);
}

TEST(Shutdown, ClientThatDoesNotReadDoesNotHoldItUp) {
  TestServer server({.shutdown_timeout = milliseconds(0)});
  v1::CompleteRequest request = TextRequest("a", 4000);  // with logprobs far more than a connection buffers
  request.mutable_output()->set_top_logprobs(20);
  grpc::ClientContext context;
  const auto reader = server.stub->StreamComplete(&context, Streaming(request));
  // The scheduler is done with it, the connection is not.
  ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().finished == 1; }));
  EXPECT_EQ(server.server->stats().active_calls, 1);
  EXPECT_FALSE(server.server->Shutdown());
  EXPECT_EQ(server.server->stats().active_calls, 0);
  v1::StreamCompleteResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST(Shutdown, FreesThePort) {
  auto first = std::make_unique<TestServer>();
  CompletionServerOptions options;
  options.listen = first->server->address();
  EXPECT_TRUE(first->server->Shutdown());
  first.reset();
  PuppetTokenizer tokenizer;
  PuppetRunner runner;
  Scheduler scheduler(runner, tokenizer);
  const auto second = CompletionServer::Start(scheduler, tokenizer, PuppetModel(), options);
  EXPECT_TRUE(second.ok()) << second.status();
}

// Reactors, observers and the server end in every order; the sanitizers watch.
TEST(Shutdown, AmidCallsThatComeAndGo) {
  TestServer server({.max_queued_requests = 64, .shutdown_timeout = milliseconds(0)});
  std::vector<std::thread> clients;
  std::atomic<int> begun = 0;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&, i] {
      for (int j = 0; j < 12; ++j) {
        BackgroundCall call(server, TextRequest("abc", i % 2 ? 300 : 3),
                            (i + j) % 2 ? &StreamWith : &CompleteWith);
        ++begun;
        if ((i + j) % 3 != 0) {
          call.Cancel();
          continue;
        }
        const Outcome& outcome = call.Wait();
        if (outcome.status.ok()) {
          EXPECT_THAT(outcome.summaries, SizeIs(1));
          EXPECT_THAT(outcome.token_ids, SizeIs(i % 2 ? 300 : 3));
        }
      }
    });
  }
  EXPECT_TRUE(Eventually([&] { return begun >= 36; }));
  server.server->Shutdown();
  EXPECT_EQ(server.server->stats().active_calls, 0);
  EXPECT_EQ(server.scheduler.stats().running, 0);
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace thermocline::testing
