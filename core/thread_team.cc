// ThreadTeam on oneTBB.
// SPDX-License-Identifier: Apache-2.0
#include "core/thread_team.h"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>

#ifdef __SANITIZE_THREAD__
#include <thread>
#include <vector>
#endif

namespace thermocline {
namespace {
constexpr int kMostThreads = 1024;
}  // namespace

struct ThreadTeam::Arena {
  explicit Arena(int threads) : arena(threads) {
    // oneTBB would cap every team at the machine's size; each arena starts no more threads than it has slots.
    static const oneapi::tbb::global_control allowed(oneapi::tbb::global_control::max_allowed_parallelism,
                                                     kMostThreads);
  }
  oneapi::tbb::task_arena arena;
};

ThreadTeam::ThreadTeam(int threads) : threads_(threads), arena_(std::make_unique<Arena>(threads)) {}
ThreadTeam::~ThreadTeam() = default;

absl::StatusOr<std::unique_ptr<ThreadTeam>> ThreadTeam::Create(int threads) {
  if (threads < 1 || threads > kMostThreads) {
    return InvalidArgument("threads is {}, allowed are 1 to {}", threads, kMostThreads);
  }
  return std::unique_ptr<ThreadTeam>(new ThreadTeam(threads));
}

void ThreadTeam::ParallelFor(int64_t count, int64_t grain,
                             absl::FunctionRef<void(int64_t begin, int64_t end)> body) const {
  if (count <= 0) return;
  if (threads_ == 1 || count <= grain) {
    body(0, count);
    return;
  }
  const int64_t pieces = (count + grain - 1) / grain;
  const auto run = [&](int64_t begin, int64_t end) { body(begin * grain, std::min(count, end * grain)); };
#ifdef __SANITIZE_THREAD__
  // libtbb is not instrumented, so ThreadSanitizer cannot see what its fork and join order. It can see plain
  // threads.
  const int64_t parts = std::min<int64_t>(pieces, threads_);
  std::vector<std::thread> others;
  for (int64_t p = 1; p < parts; ++p) {
    others.emplace_back([&run, p, parts, pieces] { run(pieces * p / parts, pieces * (p + 1) / parts); });
  }
  run(0, pieces / parts);
  for (std::thread& other : others) other.join();
#else
  arena_->arena.execute([&] {
    oneapi::tbb::parallel_for(
        oneapi::tbb::blocked_range<int64_t>(0, pieces),
        [&](const oneapi::tbb::blocked_range<int64_t>& range) { run(range.begin(), range.end()); },
        oneapi::tbb::static_partitioner());
  });
#endif
}

}  // namespace thermocline
