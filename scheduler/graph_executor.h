// GraphExecutor: runs operator graphs, one executor a device, and records when each operator ran.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/status.h"
#include "scheduler/graph.h"

namespace thermocline {

// When one operator ran. Zero-length at `ready` when it was not needed.
struct OperatorTiming {
  std::chrono::steady_clock::time_point ready;  // its last prerequisite was done
  std::chrono::steady_clock::time_point begin;
  std::chrono::steady_clock::time_point end;
  bool skipped = false;
};

// Sums over the steps that were recorded.
struct ExecutionStats {
  uint64_t steps = 0;
  uint64_t operators = 0;
  uint64_t skipped_operators = 0;
  uint64_t hand_overs = 0;           // operators whose last prerequisite ran on another device
  double hand_over_seconds = 0;      // from ready to begin, of those
  std::vector<double> busy_seconds;  // (devices)
  double overlap_seconds = 0;        // the CPU and at least one accelerator were at work at the same time
  // Share of the time that the less busy side was at work during which the other was too; 0 without
  // accelerators.
  double overlap_ratio() const;
  double mean_hand_over_micros() const;  // 0 when there were none
};

class GraphExecutor {
 public:
  // One executor thread for each of the devices above 0. They look for work for a while after each operator
  // and then sleep. ResourceExhausted when there is no thread to be had.
  static absl::StatusOr<std::unique_ptr<GraphExecutor>> Create(int32_t n_devices);
  ~GraphExecutor();
  GraphExecutor(const GraphExecutor&) = delete;
  GraphExecutor& operator=(const GraphExecutor&) = delete;

  // Runs every operator once, each after its prerequisites and on its device's executor, and returns when all
  // are done. What an operator wrote its successors see. One caller at a time; the caller is device 0's
  // executor. Allocates nothing after the first run of a graph of this size.
  void Run(const OperatorGraph& graph);

  // Of the last run, by operator. Valid until the next.
  std::span<const OperatorTiming> timings() const;
  const ExecutionStats& stats() const;
  void ResetStats();

 private:
  GraphExecutor() = default;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace thermocline
