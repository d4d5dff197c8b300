// A completion from a server: the client's side of StreamComplete.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <chrono>
#include <optional>
#include <string>

#include "core/status.h"
#include "scheduler/request.h"

namespace thermocline {

// How to reach a server, and who calls.
struct RemoteServer {
  std::string address;  // HOST:PORT
  // PEM files. Without an authority calls go in the clear.
  std::string tls_ca;
  std::string tls_certificate, tls_key;  // the client's own; empty: none is shown
  std::string api_key;                   // empty: none is sent

  // A FieldError that names the flag: certificate and key go together and need an authority; a key is of
  // characters that a header takes.
  absl::Status Validate() const;
};

struct RemoteCompletion {
  RemoteServer server;
  std::string prompt;
  bool parse_special = false;
  CompletionRequest options;  // its prompt, id and deadline are not sent
  std::optional<std::chrono::milliseconds> timeout;
  bool trace = false;
};

struct RemoteSummary {
  CompletionSummary summary;
  std::string trace;  // JSON; empty unless asked for
};

// Calls `on_delta` for each piece as it comes. What the server refuses or breaks off comes back with its code
// and its message behind the server's address.
absl::StatusOr<RemoteSummary> CompleteRemotely(const RemoteCompletion& completion,
                                               absl::FunctionRef<void(CompletionDelta)> on_delta);

}  // namespace thermocline
