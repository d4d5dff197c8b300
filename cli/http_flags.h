// Flags of `serve` for its HTTP side.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "core/status.h"
#include "server/openai_server.h"

namespace thermocline {

struct HttpFlags {
  OpenAiServerOptions options;
  std::string listen;  // empty: no HTTP
  std::string chat_template = "auto";
  int64_t sse_keepalive_ms = HttpServerOptions().stream_keepalive.count();

  bool enabled() const { return !listen.empty(); }
  // What the flags say, checked.
  absl::StatusOr<OpenAiServerOptions> Options(const TlsFiles& tls) const;
};

// --http, --http-threads, --http-max-connections, --sse-keepalive, --cors-origin, --chat-template.
// Certificates and keys are those of cli/grpc_flags.h.
void AddHttpFlags(CLI::App& command, HttpFlags& flags);

}  // namespace thermocline
