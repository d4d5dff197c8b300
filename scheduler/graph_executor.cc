// The executors of a graph: the caller for the CPU, a thread for each accelerator.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/graph_executor.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/status.h"
#include "scheduler/ready_queue.h"

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kMostDevices = 64;
constexpr size_t kCacheLine = 64;
// An entry of an executor's queue that is no operator: the run is complete (CPU), the thread is to end
// (accelerators). Graphs are smaller than this.
constexpr OperatorId kNoMoreWork = INT32_MAX;

// What one executor has to do. All but the queue is touched by its own thread alone, except that Reserve
// replaces the arrays between runs: their bounds are apart from them, so that an executor that finds nothing
// to do reads no array.
struct alignas(kCacheLine) Executor {
  void Reserve(int64_t operators) {
    queue.Reserve(operators + 1);  // and kNoMoreWork
    own_ready = std::make_unique<OperatorId[]>(static_cast<size_t>(operators));
    finished = std::make_unique<OperatorId[]>(static_cast<size_t>(operators));
  }

  ReadyQueue queue;  // from other executors
  int32_t device = 0;
  // Ready operators of this device whose last prerequisite this executor finished: [begin, end).
  int64_t own_begin = 0, own_end = 0;
  std::unique_ptr<OperatorId[]> own_ready;
  // Operators whose successors are still to be told; a stack in place of recursion.
  std::unique_ptr<OperatorId[]> finished;
  std::thread thread;
};

}  // namespace

class GraphExecutor::State {
 public:
  explicit State(int32_t n_devices) : executors_(static_cast<size_t>(n_devices)) {
    for (int32_t d = 0; d < n_devices; ++d) executors_[static_cast<size_t>(d)].device = d;
    Reserve(1);
  }
  ~State();
  absl::Status StartThreads();

  void Run(const OperatorGraph& graph);
  std::span<const OperatorTiming> timings() const { return {timings_.data(), run_size_}; }
  const ExecutionStats& stats() const { return stats_; }
  void CountLinkBytes(int64_t bytes) { stats_.link_bytes += static_cast<uint64_t>(bytes); }
  void ResetStats() { stats_ = {}; }

 private:
  void Reserve(int64_t operators);
  void RunOnCaller();
  void RunOnAll();
  void AcceleratorLoop(Executor& executor);

  OperatorId TakeNext(Executor& executor);
  void Execute(OperatorId id, Executor& executor);
  // When the last prerequisite was done.
  Clock::time_point ReadySince(const Operator& ready) const;
  // Hands a ready operator to its device. Where it is not needed, adds it to the n_finished in
  // executor.finished.
  void MakeReady(OperatorId id, Executor& executor, int64_t& n_finished);
  // Tells the successors of the n_finished operators in executor.finished.
  void TellSuccessors(int64_t n_finished, Executor& executor);

  std::vector<Executor> executors_;  // (devices)
  int64_t reserved_operators_ = 0;

  // Of the current run.
  const OperatorGraph* graph_ = nullptr;
  size_t run_size_ = 0;
  Clock::time_point start_;
  std::vector<OperatorTiming> timings_;                        // (reserved operators)
  std::unique_ptr<std::atomic<int32_t>[]> unfinished_before_;  // (reserved operators) prerequisites
  // Operators without successors that are not done. Every other operator is done when they are.
  alignas(kCacheLine) std::atomic<int64_t> unfinished_sinks_ = 0;
  bool complete_ = false;  // the CPU's executor finished the last sink

  ExecutionSummer summer_;
  ExecutionStats stats_;
};

GraphExecutor::State::~State() {
  for (Executor& executor : executors_) {
    if (!executor.thread.joinable()) continue;
    executor.queue.Push(kNoMoreWork);
    executor.thread.join();
  }
}

absl::Status GraphExecutor::State::StartThreads() {
  try {
    for (size_t d = 1; d < executors_.size(); ++d) {
      executors_[d].thread = std::thread([this, d] { AcceleratorLoop(executors_[d]); });
    }
  } catch (const std::system_error& error) {
    return ResourceExhausted("executor of {} devices: no thread: {}", executors_.size(), error.what());
  }
  return absl::OkStatus();
}

void GraphExecutor::State::Reserve(int64_t operators) {
  if (operators <= reserved_operators_) return;
  TC_CHECK(operators < kNoMoreWork / 2);
  reserved_operators_ = operators;
  timings_.resize(static_cast<size_t>(operators));
  if (executors_.size() == 1) return;  // the rest serves hand-overs
  unfinished_before_ = std::make_unique<std::atomic<int32_t>[]>(static_cast<size_t>(operators));
  for (Executor& executor : executors_) executor.Reserve(operators);
}

void GraphExecutor::State::Run(const OperatorGraph& graph) {
  TC_CHECK(graph.n_devices() <= static_cast<int32_t>(executors_.size()));
  Reserve(graph.size());
  graph_ = &graph;
  start_ = Clock::now();
  run_size_ = static_cast<size_t>(graph.size());
  if (graph.n_devices() == 1) {
    RunOnCaller();
  } else {
    RunOnAll();
  }
  summer_.Add(graph, timings(), stats_);
}

Clock::time_point GraphExecutor::State::ReadySince(const Operator& ready) const {
  Clock::time_point since = start_;
  for (const OperatorId id : ready.prerequisites) {
    since = std::max(since, timings_[static_cast<size_t>(id)].end);
  }
  return since;
}

// The order of ids is one that the prerequisites allow.
void GraphExecutor::State::RunOnCaller() {
  for (size_t i = 0; i < run_size_; ++i) {
    const Operator& current = graph_->at(static_cast<OperatorId>(i));
    const Clock::time_point ready = ReadySince(current);
    OperatorTiming& timing = timings_[i];
    if (current.needed && !current.needed()) {
      timing = {.ready = ready, .begin = ready, .end = ready, .skipped = true};
      continue;
    }
    timing = {.ready = ready, .begin = Clock::now()};
    current.work();
    timing.end = Clock::now();
  }
}

void GraphExecutor::State::RunOnAll() {
  int64_t sinks = 0;
  for (size_t i = 0; i < run_size_; ++i) {
    const OperatorId id = static_cast<OperatorId>(i);
    const auto prerequisites = static_cast<int32_t>(graph_->at(id).prerequisites.size());
    unfinished_before_[i].store(prerequisites, std::memory_order_relaxed);
    if (graph_->successors(id).empty()) ++sinks;
  }
  unfinished_sinks_.store(sinks, std::memory_order_relaxed);
  complete_ = false;

  Executor& cpu = executors_[0];
  cpu.own_begin = cpu.own_end = 0;  // a run that ended here left both behind its last operator
  for (size_t i = 0; i < run_size_; ++i) {
    const OperatorId id = static_cast<OperatorId>(i);
    if (!graph_->at(id).prerequisites.empty()) continue;
    int64_t n_finished = 0;
    MakeReady(id, cpu, n_finished);
    TellSuccessors(n_finished, cpu);
  }
  while (!complete_) {
    const OperatorId id = TakeNext(cpu);
    if (id == kNoMoreWork) return;
    Execute(id, cpu);
  }
}

void GraphExecutor::State::AcceleratorLoop(Executor& executor) {
  for (OperatorId id; (id = TakeNext(executor)) != kNoMoreWork;) Execute(id, executor);
}

OperatorId GraphExecutor::State::TakeNext(Executor& executor) {
  if (executor.own_begin < executor.own_end) {
    return executor.own_ready[static_cast<size_t>(executor.own_begin++)];
  }
  executor.own_begin = executor.own_end = 0;
  return executor.queue.Take();
}

void GraphExecutor::State::Execute(OperatorId id, Executor& executor) {
  OperatorTiming& timing = timings_[static_cast<size_t>(id)];
  timing.begin = Clock::now();
  graph_->at(id).work();
  timing.end = Clock::now();
  executor.finished[0] = id;
  TellSuccessors(1, executor);
}

void GraphExecutor::State::MakeReady(OperatorId id, Executor& executor, int64_t& n_finished) {
  const Operator& ready = graph_->at(id);
  OperatorTiming& timing = timings_[static_cast<size_t>(id)];
  const Clock::time_point since = ReadySince(ready);
  timing = {.ready = since, .begin = since, .end = since};
  if (ready.needed && !ready.needed()) {
    timing.skipped = true;
    executor.finished[static_cast<size_t>(n_finished++)] = id;
  } else if (ready.device == executor.device) {
    TC_CHECK(executor.own_end < static_cast<int64_t>(run_size_));
    executor.own_ready[static_cast<size_t>(executor.own_end++)] = id;
  } else {
    timing.handed_over = !ready.prerequisites.empty();
    executors_[static_cast<size_t>(ready.device)].queue.Push(id);
  }
}

void GraphExecutor::State::TellSuccessors(int64_t n_finished, Executor& executor) {
  while (n_finished > 0) {
    const OperatorId finished = executor.finished[static_cast<size_t>(--n_finished)];
    const std::span<const OperatorId> successors = graph_->successors(finished);
    for (const OperatorId id : successors) {
      // The last to come sees what all before it wrote.
      if (unfinished_before_[static_cast<size_t>(id)].fetch_sub(1, std::memory_order_acq_rel) == 1) {
        MakeReady(id, executor, n_finished);
      }
    }
    // From the last successor or sink on the run may be over and the graph gone: nothing of it is touched
    // below, and n_finished is 0 then.
    if (!successors.empty()) continue;
    if (unfinished_sinks_.fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
    if (executor.device == 0) {
      complete_ = true;
    } else {
      executors_[0].queue.Push(kNoMoreWork);
    }
  }
}

GraphExecutor::GraphExecutor(std::unique_ptr<State> state) : state_(std::move(state)) {}
GraphExecutor::~GraphExecutor() = default;

absl::StatusOr<std::unique_ptr<GraphExecutor>> GraphExecutor::Create(int32_t n_devices) {
  if (n_devices < 1 || n_devices > kMostDevices) {
    return InvalidArgument("executor: {} devices, allowed are 1 to {}", n_devices, kMostDevices);
  }
  auto state = std::make_unique<State>(n_devices);
  TC_RETURN_IF_ERROR(state->StartThreads());
  return std::unique_ptr<GraphExecutor>(new GraphExecutor(std::move(state)));
}

void GraphExecutor::Run(const OperatorGraph& graph) { state_->Run(graph); }
std::span<const OperatorTiming> GraphExecutor::timings() const { return state_->timings(); }
const ExecutionStats& GraphExecutor::stats() const { return state_->stats(); }
void GraphExecutor::CountLinkBytes(int64_t bytes) { state_->CountLinkBytes(bytes); }
void GraphExecutor::ResetStats() { state_->ResetStats(); }

}  // namespace thermocline
