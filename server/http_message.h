// What HTTP handlers see of a request and how they answer: plain data and two interfaces, no library's types.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/any_invocable.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/http_status.h"

namespace thermocline {

struct HttpRequest {
  std::string method;                                        // "GET"
  std::string path;                                          // as the client sent it, without the query
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case, as many as were sent
  std::string body;
  std::string peer;  // "127.0.0.1:50312"

  // The first header of that name, which must be in lower case; empty when there is none.
  std::string_view Header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";  // empty: none is sent
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// The body is that of the error, as JSON; 429 and 503 say when to come back.
HttpResponse ToResponse(const HttpError& error);

// One request's answer: whole by Respond(), or a stream by StartStream(), Write() and Finish(). Everything of
// an exchange happens on its connection's strand, one thing at a time: Handle() is called there, Post() goes
// there, and the other methods may only be called there. What comes after the end or after the client has
// gone is ignored.
class HttpExchange {
 public:
  using Task = absl::AnyInvocable<void()>;

  virtual ~HttpExchange() = default;
  // Safe from any thread. Tasks run in the order of their posting, never within Post().
  virtual void Post(Task task) = 0;

  virtual void Respond(HttpResponse response) = 0;
  // The response's body opens the stream. `filler`, if any, is written whenever the stream is silent for as
  // long as the server's options say.
  virtual void StartStream(HttpResponse response, std::string_view filler = "") = 0;
  // A client that does not read is let go once too many bytes wait for it: it counts as gone.
  virtual void Write(std::string_view bytes) = 0;
  virtual void Finish() = 0;

  // `task` runs, once and later, when the client goes away before the end of its answer.
  virtual void WhenGone(Task task) = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Answers now or later.
  virtual void Handle(HttpRequest request, std::shared_ptr<HttpExchange> exchange) = 0;
  // Answers a request that cannot be read to its end; of `request` that is there what was understood.
  virtual void Refuse(HttpRequest request, HttpError error, std::shared_ptr<HttpExchange> exchange) = 0;
};

}  // namespace thermocline
