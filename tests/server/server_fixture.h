// A server over the puppets on a loopback port, and clients of it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <google/protobuf/wrappers.pb.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "scheduler/scheduler.h"
#include "server/completion_server.h"
#include "tests/server/eventually.h"
#include "tests/server/puppet_model.h"
#include "tests/support/puppet_runner.h"
#include "tests/support/puppet_tokenizer.h"
#include "thermocline/v1/admin.grpc.pb.h"
#include "thermocline/v1/completion.grpc.pb.h"

namespace thermocline::testing {

struct ServerSetup {
  int64_t max_queued_requests = 16;
  int64_t context_length = 4096;
  std::chrono::milliseconds shutdown_timeout{60'000};
  bool predicts = false;
  int64_t audit_every = 0;
  const Credentials* credentials = nullptr;
  TlsFiles tls;
  RequestTraces* traces = nullptr;
};

// A server with one client.
struct TestServer {
  explicit TestServer(const ServerSetup& setup = {})
      : runner(setup.context_length, /*max_step_tokens=*/16, setup.predicts),
        scheduler(runner, tokenizer,
                  {.max_queued_requests = setup.max_queued_requests,
                   .audit_every = setup.audit_every,
                   .on_runner_lost =
                       [this](const absl::Status&) {
                         // As `serve` does, though on another thread.
                         server->RefuseNewCalls();
                       }}),
        chat_template(ChatTemplate::CreateNamed("none", ChatTokensOf(tokenizer)).value()),
        metrics(model.name, {.tokens_per_page = 16, .pages = 64}),
        log({}, [this](std::string_view line) {
          const std::lock_guard lock(log_mutex);
          log_lines.emplace_back(line);
        }) {
    CompletionServerOptions options;
    options.listen = "127.0.0.1:0";
    options.shutdown_timeout = setup.shutdown_timeout;
    options.tls = setup.tls;
    CompletionServerParts parts = Parts(setup.credentials);
    parts.traces = setup.traces;
    auto started = CompletionServer::Start(parts, options);
    if (!started.ok()) throw std::runtime_error(started.status().ToString());
    server = *std::move(started);
    // A window that does not grow, so that a client that does not read soon holds up its stream.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    channel = grpc::CreateCustomChannel(server->address(), grpc::InsecureChannelCredentials(), arguments);
    stub = v1::CompletionService::NewStub(channel);
    admin = v1::AdminService::NewStub(channel);
  }
  ~TestServer() { runner.Release(); }

  CompletionServerParts Parts(const Credentials* credentials = nullptr) {
    return {.scheduler = scheduler,
            .tokenizer = tokenizer,
            .chat_template = chat_template,
            .model = model,
            .metrics = metrics,
            .log = log,
            .credentials = credentials};
  }
  std::vector<std::string> Log() {
    const std::lock_guard lock(log_mutex);
    return log_lines;
  }

  bool WaitUntilIdle() {
    return Eventually([this] { return server->stats().active_calls == 0; });
  }

  PuppetTokenizer tokenizer;
  PuppetRunner runner;
  Scheduler scheduler;
  ChatTemplate chat_template;
  const ServedModel model = PuppetModel();
  ServerMetrics metrics;
  std::mutex log_mutex;
  std::vector<std::string> log_lines;
  RequestLog log;
  std::unique_ptr<CompletionServer> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::CompletionService::Stub> stub;
  std::unique_ptr<v1::AdminService::Stub> admin;
};

// What one call gave.
struct Outcome {
  grpc::Status status;
  std::string text;
  std::vector<TokenId> token_ids;
  std::vector<v1::TokenLogprob> logprobs;
  std::vector<v1::CompletionSummary> summaries;
  std::vector<v1::CompletionDelta> deltas;          // of a stream
  std::vector<v1::CompletionChoice> other_choices;  // of a whole answer
  std::string field;                                // trailing metadata
  std::string pushback;
};

inline std::string TrailingMetadata(const grpc::ClientContext& context, const std::string& key) {
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : std::string(found->second.begin(), found->second.end());
}

inline v1::CompleteRequest TextRequest(const std::string& text, int64_t max_tokens) {
  v1::CompleteRequest request;
  request.set_text(text);
  request.mutable_stopping()->set_max_tokens(max_tokens);
  return request;
}

// Both request messages have the same fields with the same numbers.
inline v1::StreamCompleteRequest Streaming(const v1::CompleteRequest& request) {
  v1::StreamCompleteRequest streaming;
  if (!streaming.ParseFromString(request.SerializeAsString()))
    throw std::runtime_error("not the same fields");
  return streaming;
}

inline Outcome CompleteWith(TestServer& server, const v1::CompleteRequest& request,
                            grpc::ClientContext& context) {
  v1::CompleteResponse response;
  Outcome outcome;
  outcome.status = server.stub->Complete(&context, request, &response);
  outcome.text = response.text();
  outcome.token_ids.assign(response.token_ids().begin(), response.token_ids().end());
  outcome.logprobs.assign(response.logprobs().begin(), response.logprobs().end());
  if (response.has_summary()) outcome.summaries.push_back(response.summary());
  outcome.other_choices.assign(response.other_choices().begin(), response.other_choices().end());
  outcome.field = TrailingMetadata(context, "thermocline-field");
  outcome.pushback = TrailingMetadata(context, "grpc-retry-pushback-ms");
  return outcome;
}

inline Outcome StreamWith(TestServer& server, const v1::CompleteRequest& request,
                          grpc::ClientContext& context) {
  const auto reader = server.stub->StreamComplete(&context, Streaming(request));
  Outcome outcome;
  v1::StreamCompleteResponse response;
  while (reader->Read(&response)) {
    if (response.has_summary()) {
      outcome.summaries.push_back(response.summary());
      continue;
    }
    const v1::CompletionDelta& delta = response.delta();
    for (const v1::CompletionSummary& summary : outcome.summaries) {
      EXPECT_NE(summary.index(), delta.index()) << "something came after the summary";
    }
    outcome.text += delta.text();
    outcome.token_ids.insert(outcome.token_ids.end(), delta.token_ids().begin(), delta.token_ids().end());
    outcome.logprobs.insert(outcome.logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    outcome.deltas.push_back(delta);
  }
  outcome.status = reader->Finish();
  outcome.field = TrailingMetadata(context, "thermocline-field");
  outcome.pushback = TrailingMetadata(context, "grpc-retry-pushback-ms");
  return outcome;
}

using Call = Outcome (*)(TestServer&, const v1::CompleteRequest&, grpc::ClientContext&);

inline Outcome Complete(TestServer& server, const v1::CompleteRequest& request) {
  grpc::ClientContext context;
  return CompleteWith(server, request, context);
}
inline Outcome Stream(TestServer& server, const v1::CompleteRequest& request) {
  grpc::ClientContext context;
  return StreamWith(server, request, context);
}

// The server still completes "abc" as it should.
inline void ExpectServes(TestServer& server) {
  const Outcome outcome = Complete(server, TextRequest("abc", 3));
  EXPECT_TRUE(outcome.status.ok()) << outcome.status.error_message();
  EXPECT_EQ(outcome.text, "def");
}

// A call in a thread of its own, which a test can cancel.
class BackgroundCall {
 public:
  BackgroundCall(TestServer& server, v1::CompleteRequest request, Call call = &StreamWith,
                 std::chrono::milliseconds deadline = std::chrono::milliseconds(0))
      : request_(std::move(request)) {
    if (deadline.count() > 0) context_.set_deadline(std::chrono::system_clock::now() + deadline);
    thread_ = std::thread([this, &server, call] { outcome_ = call(server, request_, context_); });
  }
  ~BackgroundCall() {
    if (thread_.joinable()) {
      context_.TryCancel();
      thread_.join();
    }
  }
  void Cancel() { context_.TryCancel(); }
  const Outcome& Wait() {
    if (thread_.joinable()) thread_.join();
    return outcome_;
  }

 private:
  const v1::CompleteRequest request_;
  grpc::ClientContext context_;
  Outcome outcome_;
  std::thread thread_;
};

// A call by its method's name, for services that we have no stubs of. One operation at a time.
template <typename Request, typename Response>
class NamedCall {
 public:
  NamedCall(const std::shared_ptr<grpc::Channel>& channel, const std::string& method, const Request& request)
      : stub_(channel), stream_(stub_.PrepareCall(&context_, method, &queue_)) {
    stream_->StartCall(this);
    Step();
    stream_->WriteLast(request, grpc::WriteOptions(), this);
    Step();
  }
  ~NamedCall() {
    context_.TryCancel();
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }
  // False at the end of the stream.
  bool Read(Response& response) {
    stream_->Read(&response, this);
    return Step();
  }
  grpc::Status Finish() {
    grpc::Status status;
    stream_->Finish(&status, this);
    Step();
    return status;
  }

 private:
  bool Step() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::TemplatedGenericStub<Request, Response> stub_;
  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<Request, Response>> stream_;
};

// grpc.health.v1: a request is one string in field 1, a response one number in field 1, as in these messages.
using HealthCall = NamedCall<google::protobuf::StringValue, google::protobuf::Int32Value>;
inline constexpr int kServing = 1;
inline constexpr int kNotServing = 2;

inline google::protobuf::StringValue HealthRequest(const std::string& service) {
  google::protobuf::StringValue request;
  request.set_value(service);
  return request;
}

}  // namespace thermocline::testing
