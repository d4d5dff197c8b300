// From the scheduler's figures to those that Prometheus is given.
// SPDX-License-Identifier: Apache-2.0
#include "server/scheduler_figures.h"

namespace thermocline {
namespace {

double Share(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

ScrapedFigures FiguresOf(const SchedulerStats& stats, bool ready) {
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
          .overlap_ratio = stats.execution.overlap_ratio()};
}

}  // namespace thermocline
