// Greedy plans and the fill.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/placement_baselines.h"

#include <algorithm>
#include <functional>
#include <queue>

namespace thermocline {
namespace {

// Moves neurons in descending order of frequency, each layer's in its own order, while `may` says so; a layer
// whose next neuron may not move is done.
void MoveHottest(const PlacementModel& model, LayerChoices& choices,
                 const std::function<bool(int layer, LayerChoice next)>& may) {
  std::vector<int64_t> left = model.Left(choices);
  const auto colder = [&](int a, int b) {
    const double frequency_a = model.frequency(a, choices[a].hot);
    const double frequency_b = model.frequency(b, choices[b].hot);
    return frequency_a != frequency_b ? frequency_a < frequency_b : a > b;
  };
  std::priority_queue<int, std::vector<int>, decltype(colder)> layers(colder);
  for (int l = 0; l < model.n_layers(); ++l) {
    if (choices[l].device > 0 && choices[l].hot < model.n_neurons()) layers.push(l);
  }
  while (!layers.empty()) {
    const int l = layers.top();
    layers.pop();
    LayerChoice& choice = choices[l];
    const LayerChoice next{choice.device, choice.hot + 1};
    if (left[choice.device - 1] < model.neuron_bytes(l) || !may(l, next)) continue;
    left[choice.device - 1] -= model.neuron_bytes(l);
    choice = next;
    if (choice.hot < model.n_neurons()) layers.push(l);
  }
}

// Splits the layers into runs, one an accelerator, of shares like their free memory.
int HomeOf(const PlacementModel& model, int layer) {
  double sum = 0;
  for (int device = 1; device < model.n_devices(); ++device) {
    sum += static_cast<double>(model.free_bytes(device));
  }
  const double place = (layer + 0.5) / model.n_layers() * sum;
  double end = 0;
  for (int device = 1; device < model.n_devices(); ++device) {
    end += static_cast<double>(model.free_bytes(device));
    if (place < end) return device;
  }
  return model.n_devices() - 1;
}

// Raises layers to whole where the rest fits and `may` says so.
void RaiseToWhole(const PlacementModel& model, LayerChoices& choices,
                  const std::function<bool(int layer, LayerChoice whole)>& may) {
  std::vector<int64_t> left = model.Left(choices);
  for (int l = 0; l < model.n_layers(); ++l) {
    if (choices[l].hot == model.n_neurons()) continue;
    for (int device = 1; device < model.n_devices(); ++device) {
      if (choices[l].hot > 0 && choices[l].device != device) continue;
      const int64_t bytes = (model.n_neurons() - choices[l].hot) * model.neuron_bytes(l);
      const LayerChoice whole{device, model.n_neurons()};
      if (left[device - 1] < bytes || !may(l, whole)) continue;
      left[device - 1] -= bytes;
      choices[l] = whole;
      break;
    }
  }
}

}  // namespace

LayerChoices GlobalTopK(const PlacementModel& model) {
  LayerChoices choices(model.n_layers());
  if (model.n_devices() == 1) return choices;
  for (int l = 0; l < model.n_layers(); ++l) choices[l].device = HomeOf(model, l);
  MoveHottest(model, choices, [](int, LayerChoice) { return true; });
  const LayerChoices wanted = choices;
  for (int l = 0; l < model.n_layers(); ++l) {
    LayerChoice& choice = choices[l];
    if (choice.hot > 0 && !model.Allows(l, choice)) {
      const SplitRange range = model.split_range(l, choice.device);
      choice.hot = range.least <= range.most && choice.hot > range.most ? range.most : 0;
    }
    if (choice.hot == 0) choice.device = 0;
  }
  RaiseToWhole(model, choices, [&](int l, LayerChoice whole) {
    const int64_t most = model.split_range(l, whole.device).most;
    return whole.device == wanted[l].device && wanted[l].hot > most;
  });
  return choices;
}

LayerChoices FirstLayers(const PlacementModel& model) {
  LayerChoices choices(model.n_layers());
  std::vector<int64_t> left = model.Left(choices);
  for (int l = 0; l < model.n_layers(); ++l) {
    const int64_t bytes = model.n_neurons() * model.neuron_bytes(l);
    const auto fits = std::find_if(left.begin(), left.end(), [&](int64_t free) { return free >= bytes; });
    if (fits == left.end()) break;
    *fits -= bytes;
    choices[l] = {static_cast<int>(fits - left.begin()) + 1, model.n_neurons()};
  }
  return choices;
}

void FillMemory(const PlacementModel& model, LayerChoices& choices) {
  const auto no_dearer = [&](int l, LayerChoice next) {
    return model.Allows(l, next) && model.Cost(l, next) <= model.Cost(l, choices[l]);
  };
  MoveHottest(model, choices, no_dearer);
  RaiseToWhole(model, choices, no_dearer);
}

}  // namespace thermocline
