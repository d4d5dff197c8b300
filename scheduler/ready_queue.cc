// A ring of entries with one taker.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/ready_queue.h"

#include <bit>
#include <thread>

#include "core/status.h"

namespace thermocline {
namespace {
constexpr OperatorId kEmpty = -1;
}  // namespace

void ReadyQueue::Reserve(int64_t entries) {
  TC_CHECK(entries >= 1 && entries <= INT32_MAX / 2);
  if (entries <= capacity_) return;
  capacity_ = std::bit_ceil(static_cast<uint32_t>(entries));
  places_ = std::make_unique<std::atomic<OperatorId>[]>(capacity_);
  for (uint32_t i = 0; i < capacity_; ++i) places_[i].store(kEmpty, std::memory_order_relaxed);
}

void ReadyQueue::Push(OperatorId entry) {
  const uint32_t position = claimed_.fetch_add(1, std::memory_order_relaxed);
  PlaceOf(position).store(entry, std::memory_order_release);
  pushed_.Announce();
}

OperatorId ReadyQueue::Take() {
  pushed_.AwaitChange(taken_);
  std::atomic<OperatorId>& place = PlaceOf(taken_);
  OperatorId entry;
  // The announcement may be of a later place, whose pusher overtook this one's between two instructions.
  while ((entry = place.load(std::memory_order_acquire)) == kEmpty) std::this_thread::yield();
  place.store(kEmpty, std::memory_order_relaxed);
  ++taken_;
  return entry;
}

}  // namespace thermocline
