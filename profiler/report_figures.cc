// Frequencies, skewness and coverage per layer and of the model.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report_figures.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <span>

namespace thermocline {
namespace {

// Counts of one layer, or of all, beside where the plan puts their neurons.
struct PlacedCounts {
  std::vector<uint64_t> profiled;
  std::vector<uint64_t> held_out;
  std::vector<bool> hot;
};

bool OnAccelerator(const Plan& plan, int device) {
  return device >= 0 && static_cast<size_t>(device) < plan.devices.size() &&
         plan.devices[static_cast<size_t>(device)].kind != DeviceKind::kCpu;
}

std::vector<bool> HotNeurons(const Plan& plan, size_t layer, size_t neurons) {
  std::vector<bool> hot(neurons, false);
  if (layer >= plan.layers.size()) return hot;
  for (const PlanUnit& unit : plan.layers[layer].units) {
    if (!OnAccelerator(plan, unit.device)) continue;
    for (const uint32_t neuron : unit.neurons) {
      if (neuron < neurons) hot[neuron] = true;
    }
  }
  return hot;
}

double CoverageOf(std::span<const uint64_t> counts, const std::vector<bool>& hot) {
  double all = 0;
  double covered = 0;
  for (size_t i = 0; i < std::min(counts.size(), hot.size()); ++i) {
    all += static_cast<double>(counts[i]);
    if (hot[i]) covered += static_cast<double>(counts[i]);
  }
  return all > 0 ? covered / all : std::numeric_limits<double>::quiet_NaN();
}

LayerFigures FiguresOf(const PlacedCounts& counts, const ActivationProfile& profile) {
  LayerFigures figures;
  figures.frequency.reserve(counts.profiled.size());
  const double tokens = static_cast<double>(std::max<int64_t>(profile.profiled_tokens, 1));
  for (const uint64_t count : counts.profiled) {
    figures.frequency.push_back(std::min(static_cast<double>(count) / tokens, 1.0));
  }
  std::ranges::sort(figures.frequency, std::greater<>());
  figures.hot_neurons = std::ranges::count(counts.hot, true);
  figures.silent_neurons = std::ranges::count(counts.profiled, 0u);
  figures.profiled = MeasureSkewness(counts.profiled, profile.profiled_tokens);
  figures.held_out = MeasureSkewness(counts.held_out, profile.held_out_tokens);
  figures.coverage = CoverageOf(counts.profiled, counts.hot);
  figures.held_out_coverage = CoverageOf(counts.held_out, counts.hot);
  return figures;
}

void Append(const PlacedCounts& layer, PlacedCounts& model) {
  model.profiled.insert(model.profiled.end(), layer.profiled.begin(), layer.profiled.end());
  model.held_out.insert(model.held_out.end(), layer.held_out.begin(), layer.held_out.end());
  model.hot.insert(model.hot.end(), layer.hot.begin(), layer.hot.end());
}

void NameAccelerators(const Plan& plan, ReportFigures& figures) {
  for (const PlanDevice& device : plan.devices) {
    if (device.kind == DeviceKind::kCpu) continue;
    figures.has_accelerator = true;
    if (device.kind == DeviceKind::kHost) figures.emulated = true;
  }
  if (figures.has_accelerator) figures.accelerator = figures.emulated ? "emulated accelerator" : "GPU";
}

}  // namespace

ReportFigures WorkOutFigures(const ReportInput& input) {
  const ActivationProfile& profile = *input.profile;
  ReportFigures figures;
  PlacedCounts model;
  for (size_t layer = 0; layer < profile.layers.size(); ++layer) {
    const LayerActivations& activations = profile.layers[layer];
    const size_t neurons = activations.profiled.active.size();
    PlacedCounts counts = {.profiled = activations.profiled.active,
                           .held_out = activations.held_out.active,
                           .hot = HotNeurons(*input.plan, layer, neurons)};
    counts.held_out.resize(neurons);
    figures.layers.push_back(FiguresOf(counts, profile));
    Append(counts, model);
  }
  figures.model = FiguresOf(model, profile);
  figures.has_held_out = profile.held_out_tokens > 0;
  NameAccelerators(*input.plan, figures);
  return figures;
}

std::vector<double> Cumulative(const std::vector<double>& frequency) {
  std::vector<double> sums(frequency.size() + 1, 0.0);
  std::partial_sum(frequency.begin(), frequency.end(), sums.begin() + 1);
  return sums;
}

double ActivationShare(const std::vector<double>& cumulative, double share) {
  const double all = cumulative.back();
  if (!(all > 0)) return std::numeric_limits<double>::quiet_NaN();
  const double position = std::clamp(share, 0.0, 1.0) * static_cast<double>(cumulative.size() - 1);
  const auto below = static_cast<size_t>(position);
  if (below + 1 >= cumulative.size()) return 1;
  const double part = position - std::floor(position);
  return (cumulative[below] + part * (cumulative[below + 1] - cumulative[below])) / all;
}

}  // namespace thermocline
