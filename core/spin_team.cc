// SpinTeam: giving out parts, looking, sleeping.
// SPDX-License-Identifier: Apache-2.0
#include "core/spin_team.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>

#include "core/cpu_info.h"

namespace thermocline {
namespace {

constexpr uint64_t kPartsRange = 2048;  // more than the most threads
constexpr int kPauses = 1000;           // 10 to 50 microseconds, as processors differ in how long one takes
constexpr std::chrono::milliseconds kLookFor{1};

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` does nothing on most cores
#endif
}

// Looks that are still to be made.
class Patience {
 public:
  explicit Patience(int pauses) : pauses_(pauses) {}
  // Waits before the next look; false when the time is over.
  bool Wait() {
    using Clock = std::chrono::steady_clock;
    if (pauses_ > 0) {
      if (--pauses_ == 0) give_up_ = Clock::now() + kLookFor;
      Pause();
      return true;
    }
    std::this_thread::yield();
    return Clock::now() < give_up_;
  }

 private:
  int pauses_;  // at least 1
  std::chrono::steady_clock::time_point give_up_;
};

void KeepOn(const NumaNode& node, std::thread& thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : node.cpus)
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  // A refusal, as when the CPUs have been taken away meanwhile, leaves the thread to the system.
  pthread_setaffinity_np(thread.native_handle(), sizeof set, &set);
}

}  // namespace

SpinTeam::SpinTeam(int threads, std::span<const NumaNode> nodes)
    : threads_(threads),
      pauses_(threads <= UsableCpus() ? kPauses : 1),
      workers_(std::make_unique<Worker[]>(static_cast<size_t>(threads))) {
  for (int part = 1; part < threads; ++part) {
    std::thread& thread = workers_[static_cast<size_t>(part)].thread;
    thread = std::thread([this, part] { Work(part); });
    pthread_setname_np(thread.native_handle(), "thread-team");
    if (!nodes.empty()) KeepOn(nodes[NodeOfThread(nodes, part, threads)], thread);
  }
}

SpinTeam::~SpinTeam() {
  stopping_ = true;
  GiveOut(threads_);
  for (int part = 1; part < threads_; ++part) workers_[static_cast<size_t>(part)].thread.join();
}

void SpinTeam::Run(int parts, absl::FunctionRef<void(int part)> body) {
  if (taken_.exchange(true, std::memory_order_acquire)) {
    for (int part = 0; part < parts; ++part) body(part);
    return;
  }
  body_ = &body;
  unfinished_.store(static_cast<uint32_t>(parts - 1), std::memory_order_relaxed);
  const uint64_t loop = GiveOut(parts);
  body(0);
  for (int part = 1; part < parts && unfinished_.load(std::memory_order_relaxed) > 0; ++part) {
    if (!Claim(workers_[static_cast<size_t>(part)], loop)) continue;
    body(part);
    unfinished_.fetch_sub(1, std::memory_order_relaxed);
  }
  AwaitOthers();
  taken_.store(false, std::memory_order_release);
}

// The order of this and of AwaitJob's falling asleep is total, so that either the sleeper's last look sees
// the new loop or this sees that there is a sleeper. Likewise of Work's end and AwaitOthers.
uint64_t SpinTeam::GiveOut(int parts) {
  const uint64_t loop = job_.load(std::memory_order_relaxed) / kPartsRange + 1;
  job_.store(loop * kPartsRange + static_cast<uint64_t>(parts), std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst) == 0) return loop;
  for (int part = 1; part < parts; ++part) {
    Worker& worker = workers_[static_cast<size_t>(part)];
    if (worker.asleep.load(std::memory_order_seq_cst) == 0) continue;
    if (worker.asleep.exchange(0, std::memory_order_seq_cst) == 0) continue;
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
    worker.asleep.notify_one();
  }
  return loop;
}

// A thread that comes late finds a number that is not below its loop's. The loop's data is ordered by job_,
// so that the claim itself orders nothing.
bool SpinTeam::Claim(Worker& worker, uint64_t loop) {
  uint64_t last = worker.claimed.load(std::memory_order_relaxed);
  return last < loop && worker.claimed.compare_exchange_strong(last, loop, std::memory_order_relaxed);
}

void SpinTeam::AwaitOthers() {
  Patience patience(pauses_);
  do {
    if (unfinished_.load(std::memory_order_acquire) == 0) return;
  } while (patience.Wait());
  caller_asleep_.store(true, std::memory_order_seq_cst);
  while (const uint32_t left = unfinished_.load(std::memory_order_seq_cst))
    unfinished_.wait(left, std::memory_order_seq_cst);
  caller_asleep_.store(false, std::memory_order_relaxed);
}

uint64_t SpinTeam::AwaitJob(uint64_t seen, Worker& worker) {
  Patience patience(pauses_);
  do {
    const uint64_t job = job_.load(std::memory_order_acquire);
    if (job != seen) return job;
  } while (patience.Wait());
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  worker.asleep.store(1, std::memory_order_seq_cst);
  if (job_.load(std::memory_order_seq_cst) == seen) worker.asleep.wait(1, std::memory_order_seq_cst);
  if (worker.asleep.exchange(0, std::memory_order_seq_cst) == 1)
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  return job_.load(std::memory_order_acquire);
}

void SpinTeam::Work(int part) {
  Worker& worker = workers_[static_cast<size_t>(part)];
  for (uint64_t seen = 0;;) {
    seen = AwaitJob(seen, worker);
    // Other loops go on without this thread, so nothing of them may be looked at.
    if (part >= static_cast<int>(seen % kPartsRange)) continue;
    if (!Claim(worker, seen / kPartsRange)) continue;
    if (stopping_) return;
    (*body_)(part);
    if (unfinished_.fetch_sub(1, std::memory_order_seq_cst) == 1 &&
        caller_asleep_.load(std::memory_order_seq_cst))
      unfinished_.notify_one();
  }
}

}  // namespace thermocline
