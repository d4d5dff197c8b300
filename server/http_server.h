// HttpServer: listens, and runs a handler's connections on a few threads.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"
#include "server/http_message.h"
#include "server/http_options.h"

namespace thermocline {

struct HttpServerStats {
  int64_t connections = 0;            // open
  uint64_t accepted_connections = 0;  // ever
  uint64_t refused_connections = 0;   // above the limit
};

// Safe to use from several threads.
class HttpServer {
 public:
  // Serves as soon as it returns. FailedPrecondition naming the address or the file of TLS that does not do.
  // The handler must outlive the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(HttpHandler& handler,
                                                           const HttpServerOptions& options);
  // Cuts short what still runs. No task of an exchange runs after that, and none may be posted.
  ~HttpServer();

  int port() const;
  std::string address() const;  // HOST:PORT with the port that was taken
  HttpServerStats stats() const;

  // Reads certificate, key and authority again, for connections to come. On an error the old ones stay.
  absl::Status ReloadTls();

  // From now on every connection ends with the answer that is under way, or the next one to a new connection.
  void Drain();
  // Whether no answer was under way before the time was up. Drain() comes first.
  bool WaitAnswered(std::chrono::steady_clock::time_point until);
  // Takes no connections any more and closes those that are open; handlers hear that their clients are gone.
  void CloseConnections();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline
