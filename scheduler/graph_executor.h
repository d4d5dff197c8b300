// GraphExecutor: runs operator graphs, one executor a device, and records when each operator ran.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/status.h"
#include "scheduler/execution_stats.h"
#include "scheduler/graph.h"

namespace thermocline {

// Device 0's executor is the thread that calls Run, which saves a token two hand-overs; each accelerator has
// an executor thread of its own. An executor that finishes the last prerequisite of operators of its own
// device keeps those to itself; what is ready for another device goes into that device's ready queue.
class GraphExecutor {
 public:
  // One executor thread for each of the devices above 0, n_devices from 1 to 64. Idle ones look for work for
  // a while and then sleep (core/handover.h). InvalidArgument outside; ResourceExhausted when there is no
  // thread to be had.
  static absl::StatusOr<std::unique_ptr<GraphExecutor>> Create(int32_t n_devices);
  ~GraphExecutor();
  GraphExecutor(const GraphExecutor&) = delete;
  GraphExecutor& operator=(const GraphExecutor&) = delete;

  // Runs every operator once, each after its prerequisites and on its device's executor, and returns when all
  // are done. What an operator wrote its successors see, and the caller sees everything. One caller at a
  // time. The graph's devices are at most n_devices (TC_CHECK). Operators of device 0 alone run in the order
  // of their ids. Allocates nothing after the first run of a graph of this size or larger.
  void Run(const OperatorGraph& graph);

  // Of the last run, (operators). Valid until the next.
  std::span<const OperatorTiming> timings() const;
  const ExecutionStats& stats() const;
  // Of the last run: what its operators copied between the CPU and accelerators, which only they know.
  void CountLinkBytes(int64_t bytes);
  void ResetStats();

 private:
  class State;
  explicit GraphExecutor(std::unique_ptr<State> state);
  const std::unique_ptr<State> state_;
};

}  // namespace thermocline
