// The fibres that stand for the threads of a block, and the order in which they run.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cuda_emulation.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <array>
#include <boost/context/detail/fcontext.hpp>
#include <memory>
#include <mutex>
#include <numeric>
#include <vector>

#include "core/status.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace thermocline::cuda_emulation {

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace {

namespace context = boost::context::detail;

constexpr size_t kStackBytes = size_t{128} << 10;
constexpr size_t kGuardBytes = 4096;
constexpr unsigned kFullMask = 0xFFFFFFFFu;
constexpr int kMostWarps = 32;
constexpr auto kSharedGuard = std::byte{0xA5};
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kSharedGuardBytes = 0;  // the block of the heap ends where shared memory ends
#else
constexpr size_t kSharedGuardBytes = 64;
#endif

// A stack, and where its execution stands. The first fibre stands for the host thread's own stack.
struct Fibre {
  std::byte* stack = nullptr;
  size_t stack_bytes = 0;
  context::fcontext_t context = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan_fiber = nullptr;
};

struct Thread {
  uint3 index{};
  int warp = 0;
  int lane = 0;
  Fibre* fibre = nullptr;  // once it has begun
};

struct Warp {
  unsigned present = 0;  // lanes that the block has
  unsigned ready = 0;    // lanes that could run, without the one that does
  unsigned arrived = 0;  // lanes that wait in an exchange
  WarpOperation operation = WarpOperation::kSync;
  int half = 0;                 // of `posted`, for the exchange at hand
  uint64_t posted[2][32] = {};  // a lane may be in the next exchange while others still read this one
};

// All fibres, and the block that runs on them.
class Machine {
 public:
  std::string Run(const KernelLaunch& launch);
  int Barrier(int vote);
  const uint64_t* Exchange(WarpOperation operation, unsigned mask, uint64_t posted);
  [[noreturn]] void GiveUp(std::string&& what);
  std::byte* dynamic_shared() const { return dynamic_shared_; }

 private:
  static void Enter(context::transfer_t from);
  void RunThreads();
  bool RunBlock(const KernelLaunch& launch, uint3 index);
  Thread* PickNext(int preferred_warp);
  void RunNext();
  void SwitchTo(Fibre* target);
  void Arrived(context::transfer_t from);
  void Become(Thread* thread) {
    thread_ = thread;
    threadIdx = thread->index;
  }
  Fibre* FreeFibre();
  void MakeContext(Fibre& fibre);
  std::string WhereTheyStand() const;
  uint32_t Random() { return random_ = random_ * 1664525u + 1013904223u; }

  std::vector<std::unique_ptr<Fibre>> fibres_;
  std::vector<Fibre*> free_;
  Fibre host_;
  Fibre* running_ = &host_;
  Fibre* switched_from_ = nullptr;

  const KernelLaunch* launch_ = nullptr;
  std::vector<Thread> threads_;
  std::array<Warp, kMostWarps> warps_;
  unsigned ready_warps_ = 0;
  Thread* thread_ = nullptr;  // the one that runs
  std::byte* dynamic_shared_ = nullptr;
  size_t done_ = 0;
  size_t at_barrier_ = 0;
  int barrier_half_ = 0;
  std::array<int, 2> votes_{};
  uint32_t random_ = 0;
  std::string misuse_;
};

Machine& TheMachine() {
  static Machine& machine = *new Machine;  // its fibres may outlive every static object
  return machine;
}

void Machine::MakeContext(Fibre& fibre) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fibre.stack, fibre.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  if (fibre.tsan_fiber != nullptr) __tsan_destroy_fiber(fibre.tsan_fiber);
  fibre.tsan_fiber = __tsan_create_fiber(0);
#endif
  fibre.fake_stack = nullptr;
  fibre.context = context::make_fcontext(fibre.stack + fibre.stack_bytes, fibre.stack_bytes, &Machine::Enter);
}

Fibre* Machine::FreeFibre() {
  if (free_.empty()) {
    void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    TC_CHECK(memory != MAP_FAILED);
    TC_CHECK(mprotect(memory, kGuardBytes, PROT_NONE) == 0);
    auto fibre = std::make_unique<Fibre>();
    fibre->stack = static_cast<std::byte*>(memory) + kGuardBytes;
    fibre->stack_bytes = kStackBytes;
    MakeContext(*fibre);
    free_.push_back(fibre.get());
    fibres_.push_back(std::move(fibre));
  }
  Fibre* fibre = free_.back();
  free_.pop_back();
  return fibre;
}

// On the stack that was switched to: keeps where the other one stands.
void Machine::Arrived(context::transfer_t from) {
#if defined(__SANITIZE_ADDRESS__)
  const void* bottom = nullptr;
  size_t size = 0;
  __sanitizer_finish_switch_fiber(running_->fake_stack, &bottom, &size);
  if (switched_from_ == &host_) {
    host_.stack = static_cast<std::byte*>(const_cast<void*>(bottom));
    host_.stack_bytes = size;
  }
#endif
  switched_from_->context = from.fctx;
}

void Machine::SwitchTo(Fibre* target) {
  switched_from_ = running_;
  Fibre* const self = running_;
  running_ = target;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&self->fake_stack, target->stack, target->stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
  if (self == &host_) host_.tsan_fiber = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(target->tsan_fiber, 0);
#endif
  const context::transfer_t back = context::jump_fcontext(target->context, nullptr);
  running_ = self;
  Arrived(back);
}

void Machine::Enter(context::transfer_t from) {
  Machine& machine = TheMachine();
  machine.Arrived(from);
  machine.RunThreads();
}

// A fibre's life: the thread at hand, then another on the same stack or, when that one has its own, there.
void Machine::RunThreads() {
  for (;;) {
    launch_->body();
    ++done_;
    Fibre* const self = running_;
    Thread* const next = PickNext(thread_->warp);
    if (next != nullptr && next->fibre == nullptr) {
      next->fibre = self;
      Become(next);
      continue;
    }
    free_.push_back(self);
    if (next != nullptr) Become(next);
    SwitchTo(next != nullptr ? next->fibre : &host_);
    // Taken from the free ones for the thread that is now at hand.
  }
}

// Of the warp at hand while one of its lanes can run, else of any.
Thread* Machine::PickNext(int preferred_warp) {
  int w = preferred_warp;
  if (w < 0 || warps_[static_cast<size_t>(w)].ready == 0) {
    if (ready_warps_ == 0) return nullptr;
    const int turn = static_cast<int>(Random() >> 27);
    w = (std::countr_zero(std::rotr(ready_warps_, turn)) + turn) % kMostWarps;
  }
  Warp& warp = warps_[static_cast<size_t>(w)];
  const int turn = static_cast<int>(Random() >> 27);
  const int lane = (std::countr_zero(std::rotr(warp.ready, turn)) + turn) % warpSize;
  warp.ready &= ~(1u << lane);
  if (warp.ready == 0) ready_warps_ &= ~(1u << w);
  return &threads_[static_cast<size_t>(w * warpSize + lane)];
}

// Leaves the thread that waits; returns when it is its turn again.
void Machine::RunNext() {
  Thread* const self = thread_;
  Thread* const next = PickNext(self->warp);
  if (next == nullptr) GiveUp(WhereTheyStand());
  if (next == self) return;
  if (next->fibre == nullptr) next->fibre = FreeFibre();
  Become(next);
  SwitchTo(next->fibre);
}

std::string Machine::WhereTheyStand() const {
  size_t in_exchange = 0;
  for (const Warp& warp : warps_) in_exchange += static_cast<size_t>(std::popcount(warp.arrived));
  return fmt::format(
      "of {} threads of a block {} wait at a barrier, {} in warp exchanges, {} have returned: none can go on",
      threads_.size(), at_barrier_, in_exchange, done_);
}

// Nothing on the fibre's stack is destroyed any more, so `what` must not keep memory.
void Machine::GiveUp(std::string&& what) {
  {
    const std::string message = std::move(what);
    misuse_ = fmt::format("{}, block ({}, {}, {}), thread ({}, {}, {}): {}", launch_->name, blockIdx.x,
                          blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, message);
  }
  SwitchTo(&host_);
  TC_CHECK(false);  // a fibre that was given up starts afresh
  __builtin_unreachable();
}

int Machine::Barrier(int vote) {
  const auto half = static_cast<size_t>(barrier_half_);
  votes_[half] += vote;
  if (++at_barrier_ < threads_.size()) {
    RunNext();
    return votes_[half];
  }
  at_barrier_ = 0;
  barrier_half_ ^= 1;
  votes_[half ^ 1] = 0;
  for (size_t w = 0; w * warpSize < threads_.size(); ++w) {
    warps_[w].ready = warps_[w].present;
    ready_warps_ |= 1u << w;
  }
  // Who came last is no better than the others: one of them goes on.
  RunNext();
  return votes_[half];
}

const uint64_t* Machine::Exchange(WarpOperation operation, unsigned mask, uint64_t posted) {
  Warp& warp = warps_[static_cast<size_t>(thread_->warp)];
  if (mask != kFullMask) GiveUp(fmt::format("a warp exchange with the mask {:#010x}", mask));
  if (warp.present != kFullMask)
    GiveUp(fmt::format("an exchange in a warp of {} lanes", std::popcount(warp.present)));
  if (warp.arrived == 0) warp.operation = operation;
  if (warp.operation != operation) GiveUp("its warp's lanes are in different exchanges");
  uint64_t* const values = warp.posted[warp.half];
  values[thread_->lane] = posted;
  warp.arrived |= 1u << thread_->lane;
  if (warp.arrived == kFullMask) {
    warp.arrived = 0;
    warp.half ^= 1;
    warp.ready = kFullMask & ~(1u << thread_->lane);
    ready_warps_ |= 1u << thread_->warp;
  } else {
    RunNext();
  }
  return values;
}

bool Machine::RunBlock(const KernelLaunch& launch, uint3 index) {
  const dim3& block = launch.block;
  const size_t n = threads_.size();
  std::vector<std::byte> shared(launch.dynamic_shared_bytes + kSharedGuardBytes, std::byte{0xFF});
  std::fill_n(shared.end() - kSharedGuardBytes, kSharedGuardBytes, kSharedGuard);
  warps_.fill({});
  for (size_t i = 0; i < n; ++i) {
    Thread& t = threads_[i];
    const auto id = static_cast<unsigned>(i);
    t.index = {id % block.x, id / block.x % block.y, id / block.x / block.y};
    t.warp = static_cast<int>(i) / warpSize;
    t.lane = static_cast<int>(i) % warpSize;
    t.fibre = nullptr;
    warps_[i / warpSize].present |= 1u << t.lane;
  }
  ready_warps_ = 0;
  for (size_t w = 0; w * warpSize < n; ++w) {
    warps_[w].ready = warps_[w].present;
    ready_warps_ |= 1u << w;
  }
  done_ = at_barrier_ = 0;
  votes_ = {};
  blockIdx = index;
  blockDim = block;
  gridDim = launch.grid;
  dynamic_shared_ = shared.data();
  Become(PickNext(-1));
  thread_->fibre = FreeFibre();
  SwitchTo(thread_->fibre);  // until no thread can run
  if (misuse_.empty() && done_ < n) {
    misuse_ =
        fmt::format("{}, block ({}, {}, {}): {}", launch.name, index.x, index.y, index.z, WhereTheyStand());
  }
  if (misuse_.empty() && !std::all_of(shared.end() - kSharedGuardBytes, shared.end(),
                                      [](std::byte b) { return b == kSharedGuard; })) {
    misuse_ = fmt::format("{}, block ({}, {}, {}): wrote past its {} bytes of dynamic shared memory",
                          launch.name, index.x, index.y, index.z, launch.dynamic_shared_bytes);
  }
  return misuse_.empty();
}

std::string Machine::Run(const KernelLaunch& launch) {
  launch_ = &launch;
  misuse_.clear();
  random_ = launch.seed;
  threads_.assign(size_t{launch.block.x} * launch.block.y * launch.block.z, {});
  const uint64_t n_blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  // Every block once: a step that shares no factor with their number.
  uint64_t step = Random() % n_blocks;
  while (std::gcd(step, n_blocks) != 1) ++step;
  uint64_t b = Random() % n_blocks;
  for (uint64_t i = 0; i < n_blocks; ++i, b = (b + step) % n_blocks) {
    const uint3 index = {static_cast<unsigned>(b % launch.grid.x),
                         static_cast<unsigned>(b / launch.grid.x % launch.grid.y),
                         static_cast<unsigned>(b / launch.grid.x / launch.grid.y)};
    if (RunBlock(launch, index)) continue;
    free_.clear();
    for (const std::unique_ptr<Fibre>& fibre : fibres_) {
      MakeContext(*fibre);
      free_.push_back(fibre.get());
    }
    break;
  }
  return misuse_;
}

}  // namespace

std::string RunKernel(const KernelLaunch& launch) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  return TheMachine().Run(launch);
}

std::byte* EmulatedDynamicShared() { return TheMachine().dynamic_shared(); }

int BlockBarrier(int vote) { return TheMachine().Barrier(vote); }

const uint64_t* ExchangeInWarp(WarpOperation operation, unsigned mask, uint64_t posted) {
  return TheMachine().Exchange(operation, mask, posted);
}

}  // namespace thermocline::cuda_emulation
