// A build without MPI says so.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "profiler/mpi_reduce.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

TEST(MpiAbsent, StartSaysSo) {
  const absl::Status status = MpiSession::Start().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  ExpectRefusal(status, {"no MPI"});
}

}  // namespace
}  // namespace thermocline
