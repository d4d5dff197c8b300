// NeuronActivity: which neurons fired in the last decode step, kept only while somebody watches.
// SPDX-License-Identifier: Apache-2.0
//
// Each layer's neurons stand in an order that shows where they live: those of accelerators first, of them and
// of the others the most frequent first, as far as the plan knows. Neighbours in that order share a column of
// the picture, of which a layer has at most kMostColumns.
//
// While nobody watches, a step costs one look at an atomic.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/status.h"
#include "model/config.h"
#include "model/plan.h"
#include "scheduler/step_figures.h"

namespace thermocline {

// The neurons that one step's tokens needed, together.
struct ActivitySnapshot {
  uint64_t step = 0;             // recorded steps so far; 0: there was none
  int64_t n_tokens = 0;          // of the step
  bool known = false;            // whether the step looked: a dense one computes every neuron and does not
  StepFigures figures;           // of the step
  std::vector<uint16_t> counts;  // (n_layers, columns): neurons of the column that fired; zeros unless known
};

class NeuronActivity {
 public:
  static constexpr int64_t kMostColumns = 512;

  // plan: nullptr where there is none; then neurons stand in the order of their numbers.
  NeuronActivity(const ModelConfig& config, const Plan* plan);

  int64_t n_layers() const { return n_layers_; }
  int64_t d_ff() const { return d_ff_; }
  // The neuron of rank r in its layer's order is of column r * columns() / d_ff().
  int64_t columns() const { return columns_; }
  // Of each layer, those on accelerators: ranks [0, hot).
  const std::vector<int64_t>& hot() const { return hot_; }
  int64_t column_of(int64_t layer, uint32_t neuron) const { return column_of_[At(layer, neuron)]; }

  // ---- Of those who watch; any thread.
  void AddWatcher() { watchers_.fetch_add(1, std::memory_order_relaxed); }
  void RemoveWatcher() { watchers_.fetch_sub(1, std::memory_order_relaxed); }
  // Whether there was a recorded step since `snapshot`, which becomes the last one.
  bool Update(ActivitySnapshot& snapshot) const;

  // ---- Of the runner; its own thread, but for Fire.
  bool watched() const { return watchers_.load(std::memory_order_relaxed) > 0; }
  void BeginStep();
  // By devices within a step. Several threads at once, each for neurons of its own.
  void Fire(int64_t layer, uint32_t neuron) { fired_[At(layer, neuron)] = 1; }
  // Behind the step's last operator.
  void EndStep(int64_t n_tokens, bool known, const StepFigures& figures);

 private:
  size_t At(int64_t layer, uint32_t neuron) const { return static_cast<size_t>(layer * d_ff_) + neuron; }
  void OrderLayer(int64_t layer, const PlanLayer& placed);

  const int64_t n_layers_, d_ff_, columns_;
  std::vector<int64_t> hot_;         // (n_layers)
  std::vector<uint16_t> column_of_;  // (n_layers, d_ff)
  std::vector<uint8_t> fired_;       // (n_layers, d_ff), of the step that runs
  std::atomic<int64_t> watchers_ = 0;
  mutable std::mutex mutex_;
  ActivitySnapshot last_;  // guarded by mutex_
};

}  // namespace thermocline
