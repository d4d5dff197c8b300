// Which neurons fired in the last decode step.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/neuron_activity.h"

#include <algorithm>
#include <numeric>

namespace thermocline {

NeuronActivity::NeuronActivity(const ModelConfig& config, const Plan* plan)
    : n_layers_(config.n_layers),
      d_ff_(config.d_ff),
      columns_(std::min(config.d_ff, kMostColumns)),
      hot_(static_cast<size_t>(n_layers_)),
      column_of_(static_cast<size_t>(n_layers_ * d_ff_)),
      fired_(column_of_.size()) {
  const PlanLayer unplaced;
  for (int64_t layer = 0; layer < n_layers_; ++layer)
    OrderLayer(layer, plan == nullptr ? unplaced : plan->layers[static_cast<size_t>(layer)]);
  last_.counts.resize(static_cast<size_t>(n_layers_ * columns_));
}

void NeuronActivity::OrderLayer(int64_t layer, const PlanLayer& placed) {
  std::vector<const PlanUnit*> units;
  for (const PlanUnit& unit : placed.units) units.push_back(&unit);
  std::ranges::stable_sort(units, [](const PlanUnit* a, const PlanUnit* b) {
    if ((a->device > 0) != (b->device > 0)) return a->device > 0;
    return a->probability > b->probability;
  });
  std::vector<uint32_t> order;
  for (const PlanUnit* unit : units) {
    order.insert(order.end(), unit->neurons.begin(), unit->neurons.end());
    if (unit->device > 0) hot_[static_cast<size_t>(layer)] += std::ssize(unit->neurons);
  }
  if (units.empty()) {
    order.resize(static_cast<size_t>(d_ff_));
    std::iota(order.begin(), order.end(), 0u);
  }
  TC_CHECK(std::ssize(order) == d_ff_);
  for (int64_t rank = 0; rank < d_ff_; ++rank) {
    column_of_[At(layer, order[static_cast<size_t>(rank)])] = static_cast<uint16_t>(rank * columns_ / d_ff_);
  }
}

void NeuronActivity::BeginStep() { std::ranges::fill(fired_, uint8_t{0}); }

void NeuronActivity::EndStep(int64_t n_tokens, bool known, const StepFigures& figures) {
  const std::lock_guard lock(mutex_);
  ++last_.step;
  last_.n_tokens = n_tokens;
  last_.known = known;
  last_.figures = figures;
  std::ranges::fill(last_.counts, uint16_t{0});
  if (!known) return;
  for (int64_t layer = 0; layer < n_layers_; ++layer) {
    uint16_t* const counts = last_.counts.data() + layer * columns_;
    const size_t begin = At(layer, 0);
    for (size_t i = begin; i < begin + static_cast<size_t>(d_ff_); ++i) counts[column_of_[i]] += fired_[i];
  }
}

bool NeuronActivity::Update(ActivitySnapshot& snapshot) const {
  const std::lock_guard lock(mutex_);
  if (last_.step == snapshot.step) return false;
  snapshot = last_;
  return true;
}

}  // namespace thermocline
