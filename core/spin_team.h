// SpinTeam: threads that look for the next loop for a while before they sleep.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>

#include "core/numa.h"

namespace thermocline {

// A decode step is hundreds of loops of microseconds, a few microseconds apart. A thread that looks at one
// word for its next part begins it a fraction of a microsecond after it is given out, where waking a sleeping
// one takes tens. It looks in a tight loop for some ten microseconds, then yields its CPU between looks so
// that others get it, and sleeps after a millisecond: between requests the team costs nothing. A team of more
// threads than the process has CPUs yields from the first look on. The thread that waits for the others'
// parts does the same, and first runs the parts that nobody has begun yet: where a thread sleeps, or its CPU
// is taken by somebody else, the loop does not wait for it, and a loop that is shorter than giving it out is
// done by then.
class SpinTeam {
 public:
  // threads >= 2, the caller's included. nodes: TeamOptions::nodes.
  SpinTeam(int threads, std::span<const NumaNode> nodes);
  ~SpinTeam();
  SpinTeam(const SpinTeam&) = delete;
  SpinTeam& operator=(const SpinTeam&) = delete;

  // Calls body(part) for every part of [0, parts), 2 <= parts <= threads, and returns when all are done: part
  // 0 on the calling thread, part i on the team's thread i or on the calling one. Where the team is at work
  // for another call, or for one that this is nested in, all parts run on the calling thread.
  void Run(int parts, absl::FunctionRef<void(int part)> body);

 private:
  static constexpr int kLine = 64;
  struct alignas(kLine) Worker {
    std::atomic<uint64_t> claimed = 0;  // the last loop whose part of this thread was begun
    std::atomic<uint32_t> asleep = 0;   // 1 from before the last look until somebody takes it back
    std::thread thread;
  };

  void Work(int part);
  // The threads of parts 1 to parts - 1 see what was written before. Returns the loop's number.
  uint64_t GiveOut(int parts);
  // True for the first that asks to run this thread's part of the loop, and only while the loop runs.
  static bool Claim(Worker& worker, uint64_t loop);
  void AwaitOthers();
  // Waits until job_ is not `seen`.
  uint64_t AwaitJob(uint64_t seen, Worker& worker);

  const int threads_;
  const int pauses_;  // looks before yielding begins
  std::unique_ptr<Worker[]> workers_;

  // Written by who holds taken_, read by the threads that take part.
  alignas(kLine) std::atomic<uint64_t> job_ = 0;  // the loop's number and its parts, kPartsRange apart
  const absl::FunctionRef<void(int part)>* body_ = nullptr;
  bool stopping_ = false;

  alignas(kLine) std::atomic<uint32_t> unfinished_ = 0;  // parts of the team's threads
  std::atomic<bool> caller_asleep_ = false;

  alignas(kLine) std::atomic<bool> taken_ = false;
  std::atomic<int> sleepers_ = 0;  // spares looking at every worker when none sleeps
};

}  // namespace thermocline
