// HttpParser: bytes of a connection to requests, within limits.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "server/http_message.h"

namespace thermocline {

struct HttpLimits {
  int64_t max_body_bytes = 16 << 20;
  int64_t max_header_bytes = 32 << 10;  // request line and headers of one request
};

// Reads one request after the other. Boost.Beast does, which only this class's source includes.
class HttpParser {
 public:
  explicit HttpParser(HttpLimits limits);
  ~HttpParser();

  // Takes bytes from the front and says how many. Stops at the end of a request: what follows belongs to the
  // next one. To be called with what was left before and more.
  size_t Put(std::string_view bytes);

  bool started() const;    // has taken any byte of a request
  bool has_head() const;   // knows the request line and the headers
  bool has_whole() const;  // knows the request
  // Why there will be no request. A head that is refused, since it announces too long a body, is there.
  const std::optional<HttpError>& error() const { return error_; }

  // Of a head that is there:
  bool keep_alive() const;        // what the client asks for
  bool expects_continue() const;  // the client waits for "100 Continue" before it sends the body
  bool speaks_1_1() const;        // chunks may be sent

  // What was understood; the parser starts anew. Without `peer`.
  HttpRequest Release();

 private:
  struct Impl;
  void CheckHead();

  const HttpLimits limits_;
  std::unique_ptr<Impl> impl_;
  std::optional<HttpError> error_;
};

}  // namespace thermocline
