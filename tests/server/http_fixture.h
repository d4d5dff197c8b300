// An OpenAI-compatible server over the puppets on a loopback port.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "server/openai_server.h"
#include "tests/server/eventually.h"
#include "tests/server/http_client.h"
#include "tests/server/puppet_model.h"
#include "tests/support/puppet_runner.h"
#include "tests/support/puppet_tokenizer.h"

namespace thermocline::testing {

struct HttpSetup {
  int64_t max_queued_requests = 16;
  int64_t context_length = 4096;
  bool predicts = false;
  const Credentials* credentials = nullptr;
  bool log_prompts = false;
  NeuronActivity* activity = nullptr;
  RequestTraces* traces = nullptr;
  OpenAiServerOptions options;
};

// The chat template is "none": the contents, a line each.
struct TestHttpServer {
  explicit TestHttpServer(const HttpSetup& setup = {})
      : runner(setup.context_length, /*max_step_tokens=*/16, setup.predicts),
        scheduler(runner, tokenizer, {.max_queued_requests = setup.max_queued_requests}),
        chat_template(ChatTemplate::CreateNamed("none", ChatTokensOf(tokenizer)).value()),
        metrics(model.name, {.tokens_per_page = 16, .pages = 64}),
        log({.log_prompts = setup.log_prompts}, [this](std::string_view line) {
          const std::lock_guard lock(log_mutex);
          log_lines.emplace_back(line);
        }) {
    OpenAiServerOptions options = setup.options;
    options.http.listen = "127.0.0.1:0";
    auto started = OpenAiServer::Start({.scheduler = scheduler,
                                        .tokenizer = tokenizer,
                                        .chat_template = chat_template,
                                        .model = model,
                                        .metrics = metrics,
                                        .log = log,
                                        .credentials = setup.credentials,
                                        .activity = setup.activity,
                                        .traces = setup.traces},
                                       options);
    if (!started.ok()) throw std::runtime_error(started.status().ToString());
    server = *std::move(started);
  }
  ~TestHttpServer() { runner.Release(); }

  bool WaitUntilIdle() {
    return Eventually([this] { return server->stats().active_calls == 0; });
  }
  std::vector<std::string> Log() {
    const std::lock_guard lock(log_mutex);
    return log_lines;
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
  std::unique_ptr<OpenAiServer> server;
};

// One request on a connection of its own.
inline HttpAnswer Ask(TestHttpServer& server, const std::string& request) {
  HttpClient client(server.server->port());
  EXPECT_TRUE(client.Send(request));
  return client.Receive();
}
inline HttpAnswer Post(TestHttpServer& server, const std::string& path, const std::string& body,
                       const std::string& headers = "") {
  return Ask(server, PostText(path, body, headers));
}
inline HttpAnswer Get(TestHttpServer& server, const std::string& path, const std::string& headers = "") {
  return Ask(server, GetText(path, headers));
}

inline constexpr char kCompletions[] = "/v1/completions";
inline constexpr char kChat[] = "/v1/chat/completions";

// The server still completes "abc" as it should.
inline void ExpectServes(TestHttpServer& server) {
  const HttpAnswer answer =
      Post(server, kCompletions, R"({"prompt": "abc", "max_tokens": 3, "temperature": 0})");
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(answer.Json()["choices"][0]["text"], "def");
}

}  // namespace thermocline::testing
