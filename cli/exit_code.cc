// Exit codes of the program.
// SPDX-License-Identifier: Apache-2.0
#include "cli/exit_code.h"

#include "scheduler/request.h"

namespace thermocline {

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  const std::string field = FieldOf(status);
  return field.empty() || field == "prompt" ? kExitFailed : kExitUsage;
}

}  // namespace thermocline
