// HttpCall: one request with what every answer to it needs: its id, headers for browsers, its line in the
// log.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "server/http_cors.h"
#include "server/http_message.h"
#include "server/request_log.h"

namespace thermocline {

// An HttpExchange for handlers, under the same rule: all but Post() on the strand.
class HttpCall : public std::enable_shared_from_this<HttpCall> {
 public:
  // The policy and the log must outlive the call.
  HttpCall(HttpRequest request, std::shared_ptr<HttpExchange> exchange, const CorsPolicy& cors,
           RequestLog& log);

  const HttpRequest& request() const { return request_; }
  const std::string& id() const { return record_.request_id; }
  // What the log will say; handlers fill in what they know.
  RequestRecord& record() { return record_; }

  void Post(HttpExchange::Task task) { exchange_->Post(std::move(task)); }
  void Respond(HttpResponse response);
  void Fail(const HttpError& error);
  void Fail(const absl::Status& status);
  // Server-sent events; `first` opens them.
  void StartEvents(std::string first);
  void Write(std::string_view bytes) { exchange_->Write(bytes); }
  void Finish();
  // `task` runs, later, when the client goes away before the end of its answer.
  void WhenGone(HttpExchange::Task task);

 private:
  void Decorate(HttpResponse& response) const;
  void Log();

  const HttpRequest request_;
  const std::shared_ptr<HttpExchange> exchange_;
  const CorsPolicy& cors_;
  RequestLog& log_;
  const std::chrono::steady_clock::time_point arrival_ = std::chrono::steady_clock::now();
  RequestRecord record_;
};

}  // namespace thermocline
