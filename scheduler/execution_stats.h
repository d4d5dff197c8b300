// When operators ran, and sums over many steps: how busy devices were, how much of it at the same time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "scheduler/graph.h"

namespace thermocline {

// When one operator ran. Zero-length at `ready` when it was not needed.
struct OperatorTiming {
  std::chrono::steady_clock::time_point ready;  // its last prerequisite was done
  std::chrono::steady_clock::time_point begin;
  std::chrono::steady_clock::time_point end;
  bool skipped = false;
  bool handed_over = false;  // its last prerequisite was done on another device's executor
};

// Hears of every graph that a step runs, on the thread that asked for the step.
class OperatorObserver {
 public:
  virtual ~OperatorObserver() = default;
  // The timings are those of the graph's operators.
  virtual void OnRun(const OperatorGraph& graph, std::span<const OperatorTiming> timings) = 0;
};

// Sums over the steps that were recorded.
struct ExecutionStats {
  uint64_t steps = 0;
  uint64_t operators = 0;  // skipped ones included
  uint64_t skipped_operators = 0;
  uint64_t hand_overs = 0;           // operators whose last prerequisite ran on another device
  double hand_over_seconds = 0;      // from ready to begin, of those
  std::vector<double> busy_seconds;  // (devices)
  // (devices)(layers): of its operators of that layer. What an asynchronous device has yet to do when one
  // returns counts where it is waited for. Operators of no layer, embed and head, are left out.
  std::vector<std::vector<double>> layer_seconds;
  uint64_t link_bytes = 0;          // copied between the CPU and accelerators
  double accelerators_seconds = 0;  // at least one accelerator was at work
  double overlap_seconds = 0;       // the CPU and at least one accelerator were at work at the same time
  // Share of the time that the less busy side was at work during which the other was too; 0 without
  // accelerators.
  double overlap_ratio() const;
  double mean_hand_over_micros() const;  // 0 when there were none
};

// Adds steps to sums. Keeps its scratch, so that a step of a size seen before allocates nothing.
class ExecutionSummer {
 public:
  // A device's operators may not overlap one another. stats.busy_seconds grows to the graph's devices.
  void Add(const OperatorGraph& graph, std::span<const OperatorTiming> timings, ExecutionStats& stats);

 private:
  struct Interval {
    std::chrono::steady_clock::time_point begin, end;
  };
  static void SortByBegin(std::vector<Interval>& intervals);
  void AddOverlap(ExecutionStats& stats) const;

  std::vector<Interval> cpu_;           // disjoint
  std::vector<Interval> accelerators_;  // of all of them
};

}  // namespace thermocline
