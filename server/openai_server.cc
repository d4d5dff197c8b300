// The OpenAI-compatible HTTP server: start, drain, shutdown.
// SPDX-License-Identifier: Apache-2.0
#include "server/openai_server.h"

namespace thermocline {

absl::Status OpenAiServerOptions::Validate() const {
  TC_RETURN_IF_ERROR(http.Validate());
  return cors.Validate();
}

OpenAiServer::OpenAiServer(const OpenAiParts& parts, const OpenAiServerOptions& options)
    : service_(parts, options.cors) {}

absl::StatusOr<std::unique_ptr<OpenAiServer>> OpenAiServer::Start(const OpenAiParts& parts,
                                                                  const OpenAiServerOptions& options) {
  TC_RETURN_IF_ERROR(options.Validate());
  std::unique_ptr<OpenAiServer> server(new OpenAiServer(parts, options));
  TC_ASSIGN_OR_RETURN(server->http_, HttpServer::Start(server->service_, options.http));
  return server;
}

OpenAiServer::~OpenAiServer() {
  if (http_) Shutdown(std::chrono::steady_clock::now());
}

void OpenAiServer::RefuseNewCalls() {
  service_.RefuseNewCalls();
  http_->Drain();
}

bool OpenAiServer::Shutdown(std::chrono::steady_clock::time_point until) {
  RefuseNewCalls();
  const bool delivered = service_.calls().WaitIdle(until) && http_->WaitAnswered(until);
  http_->CloseConnections();
  // Completions whose clients are gone end within a step, and their observers need the server's threads.
  service_.calls().WaitIdle();
  return delivered;
}

}  // namespace thermocline
