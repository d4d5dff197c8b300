// Exit codes: 0 done, 1 failed, 2 wrong usage.
// SPDX-License-Identifier: Apache-2.0
#include "cli/exit_code.h"

#include <gtest/gtest.h>

#include "scheduler/request.h"

namespace thermocline {
namespace {

TEST(ExitCode, TellsUsageFromFailure) {
  EXPECT_EQ(ExitCodeOf(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeOf(NotFound("no such file")), 1);
  EXPECT_EQ(ExitCodeOf(InvalidArgument("a bad file")), 1);
  EXPECT_EQ(ExitCodeOf(FieldError("prompt", "is empty")), 1);
  EXPECT_EQ(ExitCodeOf(FieldError("temperature", "is 99")), 2);
}

}  // namespace
}  // namespace thermocline
