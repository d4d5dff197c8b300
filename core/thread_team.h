// ThreadTeam: a fixed number of threads that split loops, on a oneTBB arena.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <memory>

#include "core/status.h"

namespace thermocline {

class ThreadTeam {
 public:
  // threads: 1 to 1024, the caller's thread included. InvalidArgument outside.
  static absl::StatusOr<std::unique_ptr<ThreadTeam>> Create(int threads);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int threads() const { return threads_; }

  // Calls body(begin, end) on disjoint ranges that cover [0, count), each but the last a multiple of `grain`
  // long, and returns when all are done. Which thread runs which range is not fixed, so results must not
  // depend on it.
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body) const;

 private:
  explicit ThreadTeam(int threads);
  struct Arena;
  int threads_;
  std::unique_ptr<Arena> arena_;
};

}  // namespace thermocline
