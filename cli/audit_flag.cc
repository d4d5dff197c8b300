// --audit-every: how often a predicted token is computed exactly too.
// SPDX-License-Identifier: Apache-2.0
#include "cli/audit_flag.h"

namespace thermocline {

void AddAuditFlag(CLI::App& command, SchedulerOptions& options) {
  command
      .add_option(
          "--audit-every", options.audit_every,
          "in modes predicted and threshold one token in N is computed exactly too and compared; 0: none")
      ->capture_default_str();
}

absl::Status CheckAuditFlag(const SchedulerOptions& options) {
  if (options.audit_every >= 0) return absl::OkStatus();
  return FieldError("--audit-every", fmt::format("is {}, allowed are 0 and above", options.audit_every));
}

}  // namespace thermocline
