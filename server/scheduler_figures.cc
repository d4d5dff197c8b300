// From the scheduler's figures to those that Prometheus is given.
// SPDX-License-Identifier: Apache-2.0
#include "server/scheduler_figures.h"

#include <algorithm>

namespace thermocline {
namespace {

double Share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

// Of devices that have operators in a layer.
std::vector<LayerSeconds> LayersOf(const ExecutionStats& stats, std::span<const ServedDevice> devices) {
  std::vector<LayerSeconds> layers;
  for (size_t d = 0; d < std::min(stats.layer_seconds.size(), devices.size()); ++d) {
    for (size_t l = 0; l < stats.layer_seconds[d].size(); ++l) {
      const double seconds = stats.layer_seconds[d][l];
      if (seconds > 0)
        layers.push_back({.layer = static_cast<int64_t>(l), .device = devices[d].name, .seconds = seconds});
    }
  }
  return layers;
}

}  // namespace

ScrapedFigures FiguresOf(const SchedulerStats& stats, std::span<const ServedDevice> devices, bool ready) {
  const StepFigures& steps = stats.decode_steps.total;
  return {.running = stats.running,
          .waiting = stats.waiting,
          .kv_cache_usage = Share(stats.used_pages, stats.pages),
          .prefix_cache_queries = stats.prefix_queried_tokens,
          .prefix_cache_hits = stats.prefix_hit_tokens,
          .preemptions = stats.preemptions,
          .ready = ready,
          .active_neuron_share = Share(steps.active_neurons, steps.neurons),
          .gpu_coverage = Share(steps.active_on_accelerators, steps.active_neurons),
          .predictor_recall = stats.audits.recall(),
          .audited_tokens = static_cast<uint64_t>(stats.audits.tokens),
          .overlap_ratio = stats.execution.overlap_ratio(),
          .link_bytes = stats.execution.link_bytes,
          .layer_seconds = LayersOf(stats.execution, devices)};
}

}  // namespace thermocline
