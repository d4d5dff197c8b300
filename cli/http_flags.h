// Flags of `serve` for its HTTP side.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "core/status.h"
#include "server/openai_server.h"

namespace thermocline {

struct HttpFlags {
  OpenAiServerOptions options;
  std::string listen;  // empty: no HTTP
  std::string chat_template = "auto";
  std::string api_keys;  // file; empty: everybody may call

  bool enabled() const { return !listen.empty(); }
  // What the flags say, checked.
  absl::StatusOr<OpenAiServerOptions> Options() const;
};

// --http, --http-threads, --http-max-connections, --http-tls-cert, --http-tls-key, --http-tls-client-ca,
// --cors-origin, --api-keys, --chat-template.
void AddHttpFlags(CLI::App& command, HttpFlags& flags);

}  // namespace thermocline
