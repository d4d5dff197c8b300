// HttpServerOptions: where an HTTP server listens, its limits, time-outs and TLS files.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "core/status.h"
#include "server/http_parser.h"
#include "server/tls_files.h"

namespace thermocline {

struct HttpServerOptions {
  std::string listen = "127.0.0.1:8080";  // HOST:PORT, [IPV6]:PORT; port 0 takes any free one
  int threads = 2;                        // [1, 64]; they parse, tokenise and write
  HttpLimits limits;                      // body 1 KiB to 1 GiB, headers 1 KiB to 1 MiB
  int64_t max_connections = 1024;         // [1, 65536]; more are answered 503 and closed
  // Bytes of a stream that may wait for its reader; beyond, the client counts as gone. 4 KiB to 1 GiB.
  int64_t max_unread_bytes = 1 << 20;
  // All 1 ms to 24 hours. A request that is not whole in time is answered 408.
  std::chrono::milliseconds handshake_timeout{10'000};
  std::chrono::milliseconds header_timeout{10'000};  // from a request's first byte
  std::chrono::milliseconds body_timeout{60'000};    // from the end of its headers
  std::chrono::milliseconds idle_timeout{75'000};    // between requests
  std::chrono::milliseconds write_timeout{30'000};   // without the client taking a byte that waits for it
  // A stream of events in which nothing happened for so long gets a comment, so that proxies keep it.
  std::chrono::milliseconds stream_keepalive{10'000};
  TlsFiles tls;

  // A FieldError that names the option, its value and the limit. Files are not looked at.
  absl::Status Validate() const;
};

}  // namespace thermocline
