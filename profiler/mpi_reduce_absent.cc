// MpiSession of a build without MPI.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/mpi_reduce.h"

namespace thermocline {

absl::StatusOr<std::unique_ptr<MpiSession>> MpiSession::Start() {
  return Unimplemented("this build has no MPI; it was not found when the build was configured");
}

MpiSession::~MpiSession() = default;

absl::Status MpiSession::ReduceProfile(const absl::Status& counted, ActivationProfile&) const {
  return counted;
}

}  // namespace thermocline
