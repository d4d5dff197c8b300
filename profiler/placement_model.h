// PlacementModel: what a layer costs when its n hottest neurons live on an accelerator, and which n may be.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "profiler/placement.h"

namespace thermocline {

// The `hot` hottest neurons of a layer live on `device`, the others on the CPU; device 0 when there are none.
struct LayerChoice {
  int device = 0;
  int64_t hot = 0;
  bool operator==(const LayerChoice&) const = default;
};
using LayerChoices = std::vector<LayerChoice>;  // (n_layers)

// Counts that a layer split between the CPU and an accelerator may have: C_l and N - D_l; none when
// least > most.
struct SplitRange {
  int64_t least = 0;
  int64_t most = 0;
};

// Probability that at least one of the tokens needs a neuron of that frequency: 1 - (1 - f)^batch.
double ReadProbability(double frequency, int64_t batch_tokens);

// Sorted neurons and running sums of a problem that was checked. Immutable.
class PlacementModel {
 public:
  // free_bytes: (accelerators), what neurons may take of each. `problem` is borrowed and must outlive this.
  PlacementModel(const PlacementProblem& problem, std::vector<int64_t> free_bytes);

  const PlacementProblem& problem() const { return problem_; }
  int n_layers() const { return static_cast<int>(layers_.size()); }
  int n_devices() const { return static_cast<int>(free_bytes_.size()) + 1; }  // with the CPU, which is 0
  int64_t n_neurons() const { return n_neurons_; }                            // of each layer
  int64_t neuron_bytes(int layer) const { return problem_.layers[layer].neuron_bytes; }
  int64_t free_bytes(int device) const { return free_bytes_[device - 1]; }

  // (n_neurons), from the hottest to the coldest; equals in ascending order.
  const std::vector<uint32_t>& order(int layer) const { return layers_[layer].order; }
  double frequency(int layer, int64_t rank) const;
  // Sum of the frequencies of the `hot` hottest.
  double Impact(int layer, int64_t hot) const { return layers_[layer].impact[hot]; }
  // Expected bytes that the `hot` hottest, or the others, make a step read.
  double HotLoad(int layer, int64_t hot) const { return layers_[layer].load[hot]; }
  double ColdLoad(int layer, int64_t hot) const { return layers_[layer].load.back() - HotLoad(layer, hot); }

  SplitRange split_range(int layer, int device) const { return layers_[layer].ranges[device - 1]; }
  // None, all, or a count that may be split.
  bool Allows(int layer, LayerChoice choice) const;
  // Least count whose accelerator takes no less time than the CPU with the rest.
  int64_t BalancePoint(int layer, int device) const;

  // Seconds a step.
  double HotSeconds(int layer, LayerChoice choice) const;
  double ColdSeconds(int layer, LayerChoice choice) const;
  double Seconds(int layer, LayerChoice choice) const;
  // What the objective minimises: seconds, or minus the impact.
  double Cost(int layer, LayerChoice choice) const;
  double Cost(const LayerChoices& choices) const;

  // Bytes that the choices leave free, (accelerators); negative when they do not fit.
  std::vector<int64_t> Left(const LayerChoices& choices) const;

 private:
  struct Layer {
    std::vector<uint32_t> order;
    std::vector<double> load;    // (n_neurons + 1)
    std::vector<double> impact;  // (n_neurons + 1)
    std::vector<SplitRange> ranges;
  };
  SplitRange FindSplitRange(const Layer& layer, double accelerator_bytes_per_second) const;

  const PlacementProblem& problem_;
  std::vector<int64_t> free_bytes_;
  int64_t n_neurons_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace thermocline
