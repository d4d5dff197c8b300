// Flags of `serve` for who may call, over gRPC and HTTP alike, and for how many requests it takes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/load_model.h"
#include "core/status.h"
#include "scheduler/scheduler.h"
#include "server/credentials.h"
#include "server/tls_files.h"

namespace thermocline {

struct SecurityFlags {
  TlsFiles tls;
  CredentialOptions keys;

  // nullptr where everybody may call. Errors as of Credentials::Load.
  absl::StatusOr<std::unique_ptr<Credentials>> LoadKeys() const;
};

// --tls-cert, --tls-key, --tls-client-ca, --api-keys, --admin-keys.
void AddSecurityFlags(CLI::App& command, SecurityFlags& flags);

// FieldErrors that name the flag.
absl::Status CheckCapacityFlags(const SchedulerOptions& scheduler, const KvCacheFlags& cache);
// --kv-tokens, --max-running, --max-queued, --max-queued-tokens.
void AddCapacityFlags(CLI::App& command, SchedulerOptions& scheduler, KvCacheFlags& cache);

}  // namespace thermocline
