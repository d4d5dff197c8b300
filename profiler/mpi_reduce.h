// MpiSession: the processes that mpirun started, and the sum of their profiles.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/status.h"
#include "model/activation_profile.h"

namespace thermocline {

// From MPI_Init to MPI_Finalize. At most one, once, in a program; only the thread that started it calls it. A
// program that starts none is untouched by MPI.
class MpiSession {
 public:
  // Alone (rank 0 of 1) in a program that mpirun did not start. Unimplemented in a build without MPI.
  static absl::StatusOr<std::unique_ptr<MpiSession>> Start();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }

  // Sums the counts and tokens of all ranks into rank 0's profile; the other ranks' stay. Every rank calls
  // it, one whose counting failed with that status, so that nobody waits for it: then all ranks get an error.
  // The place in the corpus stays when all ranks came equally far, else there is none to go on from.
  // FailedPrecondition on all ranks when a profile is of another model, shape, activation or threshold than
  // rank 0's.
  absl::Status ReduceProfile(const absl::Status& counted, ActivationProfile& profile) const;

 private:
  MpiSession(int rank, int size) : rank_(rank), size_(size) {}

  const int rank_;
  const int size_;
};

}  // namespace thermocline
