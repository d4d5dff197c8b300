// OpenAiService: the routes of the HTTP surface.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "model/chat_template.h"
#include "model/tokenizer.h"
#include "scheduler/scheduler.h"
#include "server/call_counter.h"
#include "server/completion_server.h"
#include "server/credentials.h"
#include "server/http_call.h"
#include "server/http_cors.h"
#include "server/http_message.h"
#include "server/live_feed.h"
#include "server/metrics.h"
#include "server/openai_request.h"
#include "server/request_log.h"

namespace thermocline {

// What the service works with. All outlive it.
struct OpenAiParts {
  Scheduler& scheduler;
  const Tokenizer& tokenizer;
  const ChatTemplate& chat_template;
  const ServedModel& model;
  ServerMetrics& metrics;
  RequestLog& log;
  const Credentials* credentials = nullptr;  // absent: everybody may call
  NeuronActivity* activity = nullptr;        // what the runner records of neurons; absent: nothing
  RequestTraces* traces = nullptr;           // absent: none may be asked for
};

class OpenAiService final : public HttpHandler {
 public:
  OpenAiService(const OpenAiParts& parts, CorsPolicy cors);

  void Handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) override;
  void Refuse(HttpRequest request, HttpError error, std::shared_ptr<HttpExchange> exchange) override;

  // New calls are refused with 503 from now on, and /health says so; /metrics goes on. Ends live streams.
  void RefuseNewCalls();
  CallCounter& calls() const { return *calls_; }

 private:
  using Call = std::shared_ptr<HttpCall>;
  struct Route {
    std::string_view path;  // with a slash at its end, but "/": what follows is the handler's
    bool post;              // else GET and HEAD
    // Of the key that it needs; absent: it needs none, and is answered while draining.
    std::optional<CredentialScope> scope;
    void (OpenAiService::*handle)(const Call& call);
  };
  static const Route kRoutes[];
  static const Route* RouteOf(std::string_view path);

  absl::Status Admit(const Route& route, HttpCall& call) const;
  // Answers and returns false when there is none to read.
  bool ReadBody(HttpCall& call, nlohmann::json& body) const;
  absl::Status CheckModel(const nlohmann::json& body) const;
  nlohmann::json DescribeModel() const;

  void Complete(OpenAiEndpoint endpoint, const Call& call);
  void Completions(const Call& call) { Complete(OpenAiEndpoint::kCompletions, call); }
  void ChatCompletions(const Call& call) { Complete(OpenAiEndpoint::kChat, call); }
  void Models(const Call& call);
  void Model(const Call& call);
  void Tokenize(const Call& call);
  void Detokenize(const Call& call);
  void Health(const Call& call);
  void Metrics(const Call& call);
  void Dashboard(const Call& call);
  void Live(const Call& call) { live_.Watch(call); }

  const OpenAiParts parts_;
  const OpenAiContext context_;
  const CorsPolicy cors_;
  const int64_t started_;  // seconds since 1970
  const std::string fingerprint_;
  const std::shared_ptr<CallCounter> calls_ = std::make_shared<CallCounter>();
  std::atomic<bool> draining_ = false;
  LiveFeed live_;
};

}  // namespace thermocline
