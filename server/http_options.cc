// Ranges of an HTTP server's options.
// SPDX-License-Identifier: Apache-2.0
#include "server/http_options.h"

#include "scheduler/request.h"
#include "server/listen_address.h"

namespace thermocline {

absl::Status HttpServerOptions::Validate() const {
  constexpr std::chrono::milliseconds kLeast{1};
  TC_RETURN_IF_ERROR(ParseListenAddress("http", listen).status());
  TC_RETURN_IF_ERROR(CheckOptionRange("http_threads", threads, 1, 64));
  TC_RETURN_IF_ERROR(CheckOptionRange("max_body_bytes", limits.max_body_bytes, 1 << 10, 1 << 30));
  TC_RETURN_IF_ERROR(CheckOptionRange("max_header_bytes", limits.max_header_bytes, 1 << 10, 1 << 20));
  TC_RETURN_IF_ERROR(CheckOptionRange("max_connections", max_connections, 1, 1 << 16));
  TC_RETURN_IF_ERROR(CheckOptionRange("max_unread_bytes", max_unread_bytes, 4 << 10, 1 << 30));
  TC_RETURN_IF_ERROR(CheckOptionMillis("handshake_timeout", handshake_timeout, kLeast));
  TC_RETURN_IF_ERROR(CheckOptionMillis("header_timeout", header_timeout, kLeast));
  TC_RETURN_IF_ERROR(CheckOptionMillis("body_timeout", body_timeout, kLeast));
  TC_RETURN_IF_ERROR(CheckOptionMillis("idle_timeout", idle_timeout, kLeast));
  TC_RETURN_IF_ERROR(CheckOptionMillis("write_timeout", write_timeout, kLeast));
  TC_RETURN_IF_ERROR(CheckOptionMillis("sse_keepalive", stream_keepalive, kLeast));
  return tls.Validate();
}

}  // namespace thermocline
