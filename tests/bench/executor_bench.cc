// What the graph executor costs an operator, with operators that do nothing.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include "scheduler/graph_executor.h"

namespace thermocline {
namespace {

constexpr int kLayers = 32;

Operator Empty(int32_t device, std::vector<OperatorId> prerequisites) {
  return {.name = "empty", .device = device, .work = [] {}, .prerequisites = std::move(prerequisites)};
}

void RunGraph(benchmark::State& state, const OperatorGraph& graph) {
  auto executor = *GraphExecutor::Create(graph.n_devices());
  executor->Run(graph);  // takes the memory, wakes the threads
  executor->ResetStats();
  for (auto _ : state) executor->Run(graph);
  const ExecutionStats& stats = executor->stats();
  // Seconds of a rate's inverse: printed as n or u for nano- and microseconds.
  state.counters["s_per_operator"] = benchmark::Counter(
      static_cast<double>(stats.operators), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["hand_over_us"] = stats.mean_hand_over_micros();
}

// What one would write without a graph.
void BM_StraightLoop(benchmark::State& state) {
  std::vector<std::function<void()>> operators(4 * kLayers, [] {});
  for (auto _ : state) {
    for (const auto& work : operators) {
      work();
      benchmark::ClobberMemory();
    }
  }
  state.counters["s_per_operator"] =
      benchmark::Counter(static_cast<double>(operators.size()),
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void BM_ChainOnTheCpu(benchmark::State& state) {
  OperatorGraph graph;
  graph.Add(Empty(0, {}));
  for (int i = 1; i < 4 * kLayers; ++i) graph.Add(Empty(0, {i - 1}));
  RunGraph(state, graph);
}

// Every operator is a hand-over.
void BM_ChainAlternatingBetweenTwoDevices(benchmark::State& state) {
  OperatorGraph graph;
  graph.Add(Empty(0, {}));
  for (int i = 1; i < 4 * kLayers; ++i) graph.Add(Empty(i % 2, {i - 1}));
  RunGraph(state, graph);
}

// attention, predict, hot || cold, merge: two hand-overs at most for five operators.
void BM_ForkJoinPerLayer(benchmark::State& state) {
  OperatorGraph graph;
  std::vector<OperatorId> before;
  for (int layer = 0; layer < kLayers; ++layer) {
    const OperatorId attention = graph.Add(Empty(0, before));
    const OperatorId predict = graph.Add(Empty(0, {attention}));
    const OperatorId hot = graph.Add(Empty(1, {predict}));
    const OperatorId cold = graph.Add(Empty(0, {predict}));
    before = {graph.Add(Empty(0, {hot, cold}))};
  }
  RunGraph(state, graph);
}

BENCHMARK(BM_StraightLoop)->UseRealTime();
BENCHMARK(BM_ChainOnTheCpu)->UseRealTime();
BENCHMARK(BM_ChainAlternatingBetweenTwoDevices)->UseRealTime();
BENCHMARK(BM_ForkJoinPerLayer)->UseRealTime();

}  // namespace
}  // namespace thermocline

BENCHMARK_MAIN();
