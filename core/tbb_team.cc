// TbbTeam.
// SPDX-License-Identifier: Apache-2.0
#include "core/tbb_team.h"

#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#ifdef __SANITIZE_THREAD__
#include <thread>
#include <vector>
#endif

namespace thermocline {
namespace {
constexpr int kMostThreads = 1024;
}  // namespace

struct TbbTeam::Arena {
  explicit Arena(int threads) : arena(threads) {
    // oneTBB would cap every team at the machine's size; each arena starts no more threads than it has slots.
    static const oneapi::tbb::global_control allowed(oneapi::tbb::global_control::max_allowed_parallelism,
                                                     kMostThreads);
  }
  oneapi::tbb::task_arena arena;
};

TbbTeam::TbbTeam(int threads) : arena_(std::make_unique<Arena>(threads)) {}
TbbTeam::~TbbTeam() = default;

void TbbTeam::Run(int parts, absl::FunctionRef<void(int part)> body) {
#ifdef __SANITIZE_THREAD__
  // libtbb is not instrumented, so ThreadSanitizer cannot see what its fork and join order. It can see plain
  // threads.
  std::vector<std::thread> others;
  for (int part = 1; part < parts; ++part) others.emplace_back([body, part] { body(part); });
  body(0);
  for (std::thread& other : others) other.join();
#else
  arena_->arena.execute([&] {
    oneapi::tbb::parallel_for(
        oneapi::tbb::blocked_range<int>(0, parts),
        [&](const oneapi::tbb::blocked_range<int>& range) {
          for (int part = range.begin(); part < range.end(); ++part) body(part);
        },
        oneapi::tbb::static_partitioner());
  });
#endif
}

}  // namespace thermocline
