// Exit codes of the program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/status.h"

namespace thermocline {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// Wrong usage: a FieldError about anything but the prompt (the prompt is input, every other field came from a
// flag).
int ExitCodeOf(const absl::Status& status);

}  // namespace thermocline
