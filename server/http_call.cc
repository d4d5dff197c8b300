// One request with what every answer to it needs.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_call.h"

#include <absl/strings/ascii.h>

#include <algorithm>
#include <utility>

namespace thermocline {
namespace {

constexpr size_t kLongestRequestId = 128;
// Server-sent events: clients read over it.
constexpr std::string_view kComment = ": keep-alive\n\n";

// What may come back in a header and into logs and file names as it is.
bool IsPlainId(std::string_view id) {
  return !id.empty() && id.size() <= kLongestRequestId && std::ranges::all_of(id, [](unsigned char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.' || c == ':';
  });
}

}  // namespace

HttpCall::HttpCall(HttpRequest request, std::shared_ptr<HttpExchange> exchange, const CorsPolicy& cors,
                   RequestLog& log)
    : request_(std::move(request)), exchange_(std::move(exchange)), cors_(cors), log_(log) {
  record_.trace = TraceOf(request_.Header("traceparent"));
  const std::string_view asked = request_.Header("x-request-id");
  // A trace has many requests, a span is this one.
  record_.request_id = IsPlainId(asked) ? std::string(asked) : "req-" + record_.trace.span_id;
  record_.protocol = "http";
  record_.method = request_.method + " " + request_.path;
  record_.peer = request_.peer;
}

void HttpCall::Decorate(HttpResponse& response) const {
  response.headers.emplace_back("x-request-id", id());
  cors_.AddHeaders(request_, response);
}

void HttpCall::Respond(HttpResponse response) {
  record_.http_status = response.status;
  Decorate(response);
  exchange_->Respond(std::move(response));
  Log();
}

void HttpCall::Fail(const HttpError& error) {
  if (record_.status.ok()) record_.status = absl::Status(absl::StatusCode::kInvalidArgument, error.message);
  Respond(ToResponse(error));
}

void HttpCall::Fail(const absl::Status& status) {
  record_.status = status;
  Fail(ToHttpError(status));
}

void HttpCall::StartEvents(std::string first) {
  HttpResponse response{.content_type = "text/event-stream; charset=utf-8",
                        .body = std::move(first),
                        // The second is for proxies that would gather events.
                        .headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}}};
  record_.http_status = response.status;
  Decorate(response);
  exchange_->StartStream(std::move(response), kComment);
}

void HttpCall::Finish() {
  exchange_->Finish();
  Log();
}

void HttpCall::WhenGone(HttpExchange::Task task) {
  exchange_->WhenGone([self = shared_from_this(), task = std::move(task)]() mutable {
    task();
    self->record_.status = Cancelled("the client has gone");
    self->Log();
  });
}

void HttpCall::Log() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  record_.duration_ms = Milliseconds(std::chrono::steady_clock::now() - arrival_).count();
  log_.Request(record_);
}

}  // namespace thermocline
