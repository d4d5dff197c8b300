// What gRPC calls ask for and report besides one completion: choices, chats, logs, metrics, lost devices.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <map>
#include <nlohmann/json.hpp>

#include "server/error_details.h"
#include "server/request_traces.h"
#include "tests/server/server_fixture.h"

namespace thermocline::testing {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

v1::CompleteRequest ChoicesRequest(int n) {
  v1::CompleteRequest request = TextRequest("abc", 4);
  request.set_n(n);
  request.mutable_sampling()->set_temperature(10);
  request.mutable_sampling()->set_seed(5);
  return request;
}

TEST(Choices, AreTheCompletionsOfTheirSeeds) {
  TestServer server;
  const Outcome whole = Complete(server, ChoicesRequest(3));
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  ASSERT_EQ(whole.other_choices.size(), 2U);
  EXPECT_EQ(whole.summaries.at(0).seed(), 5U);
  const Outcome stream = Stream(server, ChoicesRequest(3));
  ASSERT_EQ(stream.summaries.size(), 3U);
  std::map<int, std::string> streamed;
  for (const v1::CompletionDelta& delta : stream.deltas) streamed[delta.index()] += delta.text();
  for (int i = 0; i < 3; ++i) {
    v1::CompleteRequest alone = ChoicesRequest(1);
    alone.mutable_sampling()->set_seed(5 + static_cast<uint64_t>(i));
    const std::string expected = Complete(server, alone).text;
    EXPECT_EQ(i == 0 ? whole.text : whole.other_choices[static_cast<size_t>(i - 1)].text(), expected);
    EXPECT_EQ(streamed[i], expected);
  }
  for (int i = 1; i < 3; ++i) {
    const v1::CompletionSummary& summary = whole.other_choices[static_cast<size_t>(i - 1)].summary();
    EXPECT_EQ(summary.index(), i);
    EXPECT_EQ(summary.usage().prompt_tokens(), 4);
    EXPECT_EQ(summary.seed(), 5U + static_cast<uint64_t>(i));
  }
}

TEST(Choices, AreAdmittedTogetherOrNotAtAll) {
  TestServer server({.max_queued_requests = 2});
  server.runner.HoldAt(1);
  BackgroundCall running(server, TextRequest("abc", 2));
  server.runner.WaitUntilHeld();
  for (const Call call : {&CompleteWith, &StreamWith}) {
    grpc::ClientContext context;
    const Outcome refused = call(server, ChoicesRequest(3), context);  // the queue never takes three
    EXPECT_EQ(refused.status.error_code(), grpc::INVALID_ARGUMENT);
    EXPECT_EQ(refused.field, "n");
    EXPECT_EQ(server.scheduler.stats().waiting, 0);
  }
  BackgroundCall waiting(server, TextRequest("abc", 2));
  ASSERT_TRUE(Eventually([&] { return server.scheduler.stats().waiting == 1; }));
  for (const Call call : {&CompleteWith, &StreamWith}) {
    grpc::ClientContext context;
    const Outcome refused = call(server, ChoicesRequest(2), context);  // there is room for one
    EXPECT_EQ(refused.status.error_code(), grpc::RESOURCE_EXHAUSTED);
    EXPECT_EQ(refused.deltas.size(), 0U);
    EXPECT_EQ(server.scheduler.stats().waiting, 1);
  }
  server.runner.Release();
  EXPECT_EQ(running.Wait().text, "de");
  EXPECT_EQ(waiting.Wait().text, "de");
  ASSERT_TRUE(server.WaitUntilIdle());
  ExpectServes(server);
}

TEST(Summaries, SayWhatAuditsOfTheRequestFound) {
  TestServer server({.predicts = true, .audit_every = 2});
  // Decode steps at positions 4 to 7, audits at 5 and 7: 6 of 8 and 7 of 8 neurons.
  const Outcome audited = Stream(server, TextRequest("abc", 5));
  ASSERT_TRUE(audited.status.ok()) << audited.status.error_message();
  EXPECT_EQ(audited.summaries.at(0).sparsity().audited_tokens(), 2);
  EXPECT_EQ(audited.summaries[0].sparsity().predictor_recall(), 13.0 / 16);
  EXPECT_EQ(audited.summaries[0].sparsity().active(), 4 * 8);
  EXPECT_EQ(audited.summaries[0].sparsity().active_on_accelerators(), 4 * 5);
  const Outcome plain = Complete(server, TextRequest("abc", 2));
  EXPECT_EQ(plain.summaries.at(0).sparsity().audited_tokens(), 0);
  EXPECT_FALSE(plain.summaries[0].sparsity().has_predictor_recall());
}

TEST(Traces, ComeWithTheSummaryOfTheFirstChoice) {
  RequestTraces traces(/*most=*/1);
  TestServer server({.traces = &traces});
  v1::CompleteRequest request = ChoicesRequest(2);
  request.mutable_output()->set_trace(true);
  for (const Call call : {&CompleteWith, &StreamWith, &CompleteWith, &StreamWith}) {
    grpc::ClientContext context;  // one after the other: an answer gives the place back
    context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    const Outcome outcome = call(server, request, context);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
    std::map<int, std::string> found;
    for (const v1::CompletionSummary& summary : outcome.summaries) found[summary.index()] = summary.trace();
    for (const v1::CompletionChoice& choice : outcome.other_choices) found[1] = choice.summary().trace();
    EXPECT_EQ(found[1], "");
    const nlohmann::json trace = nlohmann::json::parse(found[0]);
    EXPECT_EQ(trace["otherData"]["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    EXPECT_EQ(trace["traceEvents"][5]["args"]["name"], "cpu");
  }
  request.mutable_output()->set_trace(false);
  EXPECT_EQ(Complete(server, request).summaries.at(0).trace(), "");
}

TEST(Traces, AreNotGivenUnlessTheServerIsToldTo) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 3);
  request.mutable_output()->set_trace(true);
  const Outcome refused = Stream(server, request);
  EXPECT_EQ(refused.status.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_EQ(refused.field, "trace");
}

TEST(Choices, OneThatFailsEndsTheCall) {
  TestServer server;
  server.runner.FailAfter(PuppetTokenizer::IdOf('!'), Internal("a step failed"));
  for (const Call call : {&CompleteWith, &StreamWith}) {
    v1::CompleteRequest request = ChoicesRequest(4);
    request.set_text("abc!");
    grpc::ClientContext context;
    EXPECT_EQ(call(server, request, context).status.error_code(), grpc::INTERNAL);
  }
  ASSERT_TRUE(server.WaitUntilIdle());
  ExpectServes(server);
}

TEST(Choices, CancelEndsAllOfThem) {
  TestServer server;
  server.runner.HoldAt(4);
  v1::CompleteRequest request = ChoicesRequest(3);
  request.mutable_stopping()->set_max_tokens(1000);
  BackgroundCall call(server, request);
  server.runner.WaitUntilHeld();
  call.Cancel();
  EXPECT_EQ(call.Wait().status.error_code(), grpc::CANCELLED);
  ASSERT_TRUE(Eventually([&] { return server.server->stats().cancelled_calls == 1; }));
  server.runner.Release();
  ASSERT_TRUE(server.WaitUntilIdle());
  EXPECT_EQ(server.scheduler.stats().used_pages, 0);
}

TEST(Chat, ContentsAreCompleted) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("", 2);
  v1::ChatMessage& message = *request.mutable_messages()->add_messages();
  message.set_role("user");
  message.set_content("abc");
  const Outcome outcome = Complete(server, request);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "de");
}

TEST(Usage, SaysWhatWasCached) {
  TestServer server;
  const v1::CompleteRequest request = TextRequest(std::string(100, 'a'), 2);
  EXPECT_EQ(Complete(server, request).summaries.at(0).usage().cached_tokens(), 0);
  EXPECT_GE(Complete(server, request).summaries.at(0).usage().cached_tokens(), 64);
}

TEST(UnknownModel, IsNotFound) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 2);
  request.set_model("gpt-9");
  const Outcome outcome = Complete(server, request);
  EXPECT_EQ(outcome.status.error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(outcome.field, "model");
  request.set_model(server.model.name);
  EXPECT_TRUE(Complete(server, request).status.ok());
}

TEST(RequestLines, SayWhatWasCalledAndHowItEnded) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 2);
  request.set_request_id("mine");
  request.set_n(2);
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  ASSERT_TRUE(CompleteWith(server, request, context).status.ok());
  ASSERT_TRUE(Eventually([&] { return server.Log().size() == 1; }));
  const auto line = nlohmann::json::parse(server.Log()[0]);
  EXPECT_EQ(line["request_id"], "mine");
  EXPECT_EQ(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(line["protocol"], "grpc");
  EXPECT_EQ(line["method"], "/thermocline.v1.CompletionService/Complete");
  EXPECT_THAT(server.Log()[0], AllOf(HasSubstr("\"completion_tokens\":4"), HasSubstr("\"OK\"")));
  EXPECT_FALSE(Complete(server, TextRequest("", 2)).status.ok());
  ASSERT_TRUE(Eventually([&] { return server.Log().size() == 2; }));
  EXPECT_THAT(server.Log()[1], HasSubstr("prompt: text is empty"));
}

TEST(Metrics, CountWhatGrpcClientsGet) {
  TestServer server;
  v1::CompleteRequest request = TextRequest("abc", 3);
  request.set_n(2);
  ASSERT_TRUE(Complete(server, request).status.ok());
  ASSERT_TRUE(Stream(server, TextRequest("abc", 5)).status.ok());
  EXPECT_FALSE(Complete(server, TextRequest("", 2)).status.ok());
  const std::string text = server.metrics.Exposition({});
  EXPECT_THAT(text, HasSubstr("vllm:prompt_tokens_total{model_name=\"puppet.gguf\"} 8\n"));
  EXPECT_THAT(text, HasSubstr("vllm:generation_tokens_total{model_name=\"puppet.gguf\"} 11\n"));
  EXPECT_THAT(text, HasSubstr("vllm:e2e_request_latency_seconds_count{model_name=\"puppet.gguf\"} 3\n"));
}

TEST(LostDevice, EndsWhatRunsAndIsNotServing) {
  TestServer server;
  ExpectServes(server);
  HealthCall watch(server.channel, "/grpc.health.v1.Health/Watch", HealthRequest(""));
  google::protobuf::Int32Value health;
  ASSERT_TRUE(watch.Read(health));
  EXPECT_EQ(health.value(), kServing);
  server.runner.HoldAt(server.runner.forward_calls() + 2);
  BackgroundCall running(server, TextRequest("abc", 100));
  server.runner.WaitUntilHeld();
  BackgroundCall waiting(server, TextRequest("x", 2), &CompleteWith);
  ASSERT_TRUE(Eventually([&] { return server.server->stats().active_calls == 2; }));
  server.runner.LoseDeviceAt(server.runner.forward_calls());
  server.runner.Release();
  EXPECT_EQ(running.Wait().status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(waiting.Wait().status.error_code(), grpc::UNAVAILABLE);
  ASSERT_TRUE(watch.Read(health));
  EXPECT_EQ(health.value(), kNotServing);
  for (const Call call : {&CompleteWith, &StreamWith}) {
    grpc::ClientContext context;
    const Outcome refused = call(server, TextRequest("z", 1), context);
    EXPECT_EQ(refused.status.error_code(), grpc::UNAVAILABLE);
    EXPECT_THAT(refused.status.error_message(), HasSubstr("lost"));
  }
  EXPECT_TRUE(server.WaitUntilIdle());
}

TEST(OutOfMemory, FailsOneRequestAndTheServerGoesOn) {
  TestServer server;
  server.runner.FailAfter(PuppetTokenizer::IdOf('!'), ResourceExhausted("the device has no memory left"));
  server.runner.HoldAt(2);
  BackgroundCall other(server, TextRequest("abc", 8));
  server.runner.WaitUntilHeld();
  server.runner.Release();
  const Outcome failed = Complete(server, TextRequest("abc!", 5));
  EXPECT_EQ(failed.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(failed.pushback, "");  // nobody knows when there will be some
  ExpectServes(server);
  EXPECT_TRUE(server.scheduler.health().ok());
}

// Bytes as google/rpc/status.proto and error_details.proto define them, written down by hand.
TEST(ErrorDetails, AreThoseOfGoogleRpc) {
  EXPECT_EQ(ErrorDetails(Internal("no details")), "");
  const std::string retry =
      ErrorDetails(WithRetryDelay(ResourceExhausted("full"), std::chrono::milliseconds(1500)));
  EXPECT_THAT(retry, StartsWith("\x08\x08\x12\x04"
                                "full\x1a"));  // code, message, the first detail
  EXPECT_THAT(retry, HasSubstr("type.googleapis.com/google.rpc.RetryInfo"));
  // A duration of 1 s and 500,000,000 ns.
  EXPECT_THAT(retry, EndsWith("\x0a\x08\x08\x01\x10\x80\xca\xb5\xee\x01"));
  const std::string bad = ErrorDetails(FieldError("top_p", "is 5"));
  EXPECT_THAT(bad, StartsWith("\x08\x03\x12\x0btop_p: is 5\x1a"));
  EXPECT_THAT(bad, HasSubstr("type.googleapis.com/google.rpc.BadRequest"));
  EXPECT_THAT(bad, EndsWith("\x0a\x14\x0a\x05top_p\x12\x0btop_p: is 5"));
}

}  // namespace
}  // namespace thermocline::testing
