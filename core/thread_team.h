// ThreadTeam: a fixed number of threads that split loops.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/numa.h"
#include "core/status.h"

namespace thermocline {

class SpinTeam;
class TbbTeam;

enum class TeamKind {
  kSpin,  // threads that look for the next loop for a while and then sleep (spin_team.h)
  kTbb,   // an arena of oneTBB
};
// InvalidArgument, naming those that there are, for any other name than "spin" and "tbb".
absl::StatusOr<TeamKind> ParseTeamKind(std::string_view name);

struct TeamOptions {
  TeamKind kind = TeamKind::kSpin;
  // Of a spinning team: its threads are kept on these nodes, the first ones on the first, as many as its
  // share of CPUs. The calling thread is left to the system, which finds the free CPU on the first node.
  // Empty: the system places all of them.
  std::vector<NumaNode> nodes;
};

class ThreadTeam {
 public:
  // threads: 1 to 1024, the caller's thread included. InvalidArgument outside.
  static absl::StatusOr<std::unique_ptr<ThreadTeam>> Create(int threads, const TeamOptions& options = {});
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int threads() const { return threads_; }

  // Calls body(begin, end) on disjoint ranges that cover [0, count), each but the last a multiple of `grain`
  // long, and returns when all are done. Results must not depend on which thread runs which range; but the
  // ranges of threads follow one another, so that loops over the same data cut it alike. `body` must not
  // throw.
  //
  // Any thread may call at any time, also from within a body. A spinning team serves one caller at a time and
  // lets any other, a nested one among them, run its whole loop on the thread that it has.
  void ParallelFor(int64_t count, int64_t grain,
                   absl::FunctionRef<void(int64_t begin, int64_t end)> body) const;

 private:
  explicit ThreadTeam(int threads);
  int threads_;
  std::unique_ptr<SpinTeam> spin_;  // one of the two, and neither where the caller is the team
  std::unique_ptr<TbbTeam> tbb_;
};

}  // namespace thermocline
