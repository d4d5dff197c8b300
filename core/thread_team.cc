// ThreadTeam: cutting loops into the parts of a team.
// SPDX-License-Identifier: Apache-2.0
#include "core/thread_team.h"

#include <algorithm>

#include "core/spin_team.h"
#include "core/tbb_team.h"

namespace thermocline {
namespace {
constexpr int kMostThreads = 1024;
}  // namespace

absl::StatusOr<TeamKind> ParseTeamKind(std::string_view name) {
  if (name == "spin") return TeamKind::kSpin;
  if (name == "tbb") return TeamKind::kTbb;
  return InvalidArgument("'{}' is unknown; known are spin and tbb", name);
}

ThreadTeam::ThreadTeam(int threads) : threads_(threads) {}
ThreadTeam::~ThreadTeam() = default;

absl::StatusOr<std::unique_ptr<ThreadTeam>> ThreadTeam::Create(int threads, const TeamOptions& options) {
  if (threads < 1 || threads > kMostThreads) {
    return InvalidArgument("threads is {}, allowed are 1 to {}", threads, kMostThreads);
  }
  std::unique_ptr<ThreadTeam> team(new ThreadTeam(threads));
  if (threads == 1) return team;
  if (options.kind == TeamKind::kSpin) {
    team->spin_ = std::make_unique<SpinTeam>(threads, options.nodes);
  } else {
    team->tbb_ = std::make_unique<TbbTeam>(threads);
  }
  return team;
}

void ThreadTeam::ParallelFor(int64_t count, int64_t grain,
                             absl::FunctionRef<void(int64_t begin, int64_t end)> body) const {
  if (count <= 0) return;
  if (threads_ == 1 || count <= grain) {
    body(0, count);
    return;
  }
  const int64_t pieces = (count + grain - 1) / grain;
  const int parts = static_cast<int>(std::min<int64_t>(pieces, threads_));
  const auto run = [&](int part) {
    body(pieces * part / parts * grain, std::min(count, pieces * (part + 1) / parts * grain));
  };
  if (spin_ != nullptr) {
    spin_->Run(parts, run);
  } else {
    tbb_->Run(parts, run);
  }
}

}  // namespace thermocline
