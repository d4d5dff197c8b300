// ReadyQueue: operators that are ready for one executor, pushed by the others.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/handover.h"
#include "scheduler/graph.h"

namespace thermocline {

// Any number of threads push, one takes. A ring without locks: a push claims a place, fills it and announces
// it. That places are free is the owner's promise: with room for n entries, a push happens after the take of
// the n-th entry before it.
class ReadyQueue {
 public:
  // Room for `entries`. While the queue is empty and nobody pushes; the taker may be waiting.
  void Reserve(int64_t entries);

  // What the caller wrote before is seen by the taker of the entry. entry: not negative.
  void Push(OperatorId entry);

  // The entry whose place was claimed first; waits for it.
  OperatorId Take();

 private:
  std::atomic<OperatorId>& PlaceOf(uint32_t position) { return places_[position & (capacity_ - 1)]; }

  Handover pushed_;
  std::atomic<uint32_t> claimed_ = 0;
  uint32_t taken_ = 0;     // the taker's own
  uint32_t capacity_ = 0;  // a power of two, so that positions may wrap around
  std::unique_ptr<std::atomic<OperatorId>[]> places_;
};

}  // namespace thermocline
