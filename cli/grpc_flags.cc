// Flags of `serve` for who may call, over gRPC and HTTP alike, and for how many requests it takes.
// SPDX-License-Identifier: Apache-2.0
#include "cli/grpc_flags.h"

namespace thermocline {

absl::StatusOr<std::unique_ptr<Credentials>> SecurityFlags::LoadKeys() const {
  if (keys.completions_file.empty() && keys.admin_file.empty()) return nullptr;
  return Credentials::Load(keys);
}

void AddSecurityFlags(CLI::App& command, SecurityFlags& flags) {
  command.add_option(
      "--tls-cert", flags.tls.certificate,
      "PEM file of the server's certificate and its chain; read again at SIGHUP, as are all of these");
  command.add_option("--tls-key", flags.tls.private_key, "PEM file of its private key");
  command.add_option("--tls-client-ca", flags.tls.client_ca,
                     "PEM file of the authorities of which clients must show a certificate");
  command.add_option("--api-keys", flags.keys.completions_file,
                     "file with one key a line, KEY or NAME:KEY, of which clients must show one");
  command.add_option("--admin-keys", flags.keys.admin_file,
                     "the same for admin calls, which with --api-keys alone are closed to everybody");
}

absl::Status CheckCapacityFlags(const SchedulerOptions& scheduler, const KvCacheFlags& cache) {
  const auto check = [](const char* flag, int64_t value) {
    if (value >= 1) return absl::OkStatus();
    return FieldError(flag, fmt::format("is {}, at least 1 is needed", value));
  };
  TC_RETURN_IF_ERROR(check("--max-running", scheduler.max_running_requests));
  TC_RETURN_IF_ERROR(check("--max-queued", scheduler.max_queued_requests));
  TC_RETURN_IF_ERROR(check("--max-queued-tokens", scheduler.max_queued_tokens));
  if (cache.tokens >= 0) return absl::OkStatus();
  return FieldError("--kv-tokens", fmt::format("is {}, allowed are 0 and above", cache.tokens));
}

void AddCapacityFlags(CLI::App& command, SchedulerOptions& scheduler, KvCacheFlags& cache) {
  command
      .add_option(
          "--kv-tokens", cache.tokens,
          "tokens of all requests whose keys and values are kept; 0: what the plan planned for where it "
          "places them on an accelerator, else 8 contexts or what a quarter of the free memory holds")
      ->capture_default_str();
  command.add_option("--max-running", scheduler.max_running_requests, "requests that are computed at once")
      ->capture_default_str();
  command
      .add_option("--max-queued", scheduler.max_queued_requests,
                  "requests that may wait besides those that run; more are refused")
      ->capture_default_str();
  command
      .add_option("--max-queued-tokens", scheduler.max_queued_tokens,
                  "tokens of the prompts that may wait; more are refused")
      ->capture_default_str();
}

}  // namespace thermocline
