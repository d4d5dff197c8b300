// OpenAiServer: the OpenAI-compatible HTTP server over a scheduler, with drain and shutdown.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/status.h"
#include "server/call_counter.h"
#include "server/http_cors.h"
#include "server/http_options.h"
#include "server/http_server.h"
#include "server/openai_service.h"

namespace thermocline {

struct OpenAiServerOptions {
  HttpServerOptions http;
  CorsPolicy cors;

  // A FieldError that names the option, its value and the limit.
  absl::Status Validate() const;
};

// Safe to use from several threads.
class OpenAiServer {
 public:
  // Serves as soon as it returns. Errors as of HttpServer::Start. The parts must outlive the server.
  static absl::StatusOr<std::unique_ptr<OpenAiServer>> Start(const OpenAiParts& parts,
                                                             const OpenAiServerOptions& options);
  // Cuts short what still runs.
  ~OpenAiServer();

  int port() const { return http_->port(); }
  std::string address() const { return http_->address(); }
  CompletionServerStats stats() const { return service_.calls().stats(); }
  HttpServerStats http_stats() const { return http_->stats(); }

  // Reads certificate, key and authority again; on an error the old ones stay.
  absl::Status ReloadTls() { return http_->ReloadTls(); }

  // New calls are answered 503 from now on, while the scheduler is drained by whoever owns it.
  void RefuseNewCalls();
  // After RefuseNewCalls() and the scheduler's Drain(): lets answers reach their clients until the time is
  // up, then closes every connection. True when none was cut short.
  bool Shutdown(std::chrono::steady_clock::time_point until);

 private:
  OpenAiServer(const OpenAiParts& parts, const OpenAiServerOptions& options);

  OpenAiService service_;
  std::unique_ptr<HttpServer> http_;
};

}  // namespace thermocline
