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

struct RemoteCompletion {
  std::string server;  // HOST:PORT
  std::string prompt;
  bool parse_special = false;
  CompletionRequest options;  // its prompt, id and deadline are not sent
  std::optional<std::chrono::milliseconds> timeout;
};

// Calls `on_delta` for each piece as it comes. What the server refuses or breaks off comes back with its code
// and its message behind the server's address.
absl::StatusOr<CompletionSummary> CompleteRemotely(const RemoteCompletion& completion,
                                                   absl::FunctionRef<void(CompletionDelta)> on_delta);

}  // namespace thermocline
