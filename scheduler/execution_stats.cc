// Sums of operator timings, and how much of the devices' work overlapped.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/execution_stats.h"

#include <algorithm>

namespace thermocline {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

double ExecutionStats::overlap_ratio() const {
  if (busy_seconds.empty()) return 0;
  const double less_busy = std::min(busy_seconds[0], accelerators_seconds);
  return less_busy > 0 ? overlap_seconds / less_busy : 0;
}

double ExecutionStats::mean_hand_over_micros() const {
  return hand_overs > 0 ? hand_over_seconds * 1e6 / static_cast<double>(hand_overs) : 0;
}

void ExecutionSummer::Add(const OperatorGraph& graph, std::span<const OperatorTiming> timings,
                          ExecutionStats& stats) {
  const bool has_accelerators = graph.n_devices() > 1;
  stats.busy_seconds.resize(std::max(stats.busy_seconds.size(), static_cast<size_t>(graph.n_devices())));
  stats.layer_seconds.resize(stats.busy_seconds.size());
  ++stats.steps;
  stats.operators += timings.size();
  cpu_.clear();
  accelerators_.clear();
  for (size_t i = 0; i < timings.size(); ++i) {
    const OperatorTiming& timing = timings[i];
    if (timing.skipped) {
      ++stats.skipped_operators;
      continue;
    }
    const size_t device = static_cast<size_t>(graph.at(static_cast<OperatorId>(i)).device);
    const double seconds = Seconds(timing.end - timing.begin);
    stats.busy_seconds[device] += seconds;
    if (const int32_t layer = graph.at(static_cast<OperatorId>(i)).layer; layer >= 0) {
      std::vector<double>& layers = stats.layer_seconds[device];
      layers.resize(std::max(layers.size(), static_cast<size_t>(layer) + 1));
      layers[static_cast<size_t>(layer)] += seconds;
    }
    if (timing.handed_over) {
      ++stats.hand_overs;
      stats.hand_over_seconds += Seconds(timing.begin - timing.ready);
    }
    if (has_accelerators) (device == 0 ? cpu_ : accelerators_).push_back({timing.begin, timing.end});
  }
  if (!has_accelerators) return;
  SortByBegin(cpu_);
  SortByBegin(accelerators_);
  AddOverlap(stats);
}

void ExecutionSummer::SortByBegin(std::vector<Interval>& intervals) {
  const auto earlier = [](const Interval& a, const Interval& b) { return a.begin < b.begin; };
  // Executors mostly run operators in the order of their ids.
  if (!std::is_sorted(intervals.begin(), intervals.end(), earlier)) {
    std::sort(intervals.begin(), intervals.end(), earlier);
  }
}

void ExecutionSummer::AddOverlap(ExecutionStats& stats) const {
  Clock::duration at_work{0}, overlap{0};
  size_t first_cpu = 0;  // those before it ended before the current stretch
  for (size_t i = 0; i < accelerators_.size();) {
    // A stretch without a pause, from one accelerator or several that take turns.
    Interval stretch = accelerators_[i];
    for (++i; i < accelerators_.size() && accelerators_[i].begin <= stretch.end; ++i) {
      stretch.end = std::max(stretch.end, accelerators_[i].end);
    }
    at_work += stretch.end - stretch.begin;
    while (first_cpu < cpu_.size() && cpu_[first_cpu].end <= stretch.begin) ++first_cpu;
    for (size_t c = first_cpu; c < cpu_.size() && cpu_[c].begin < stretch.end; ++c) {
      overlap += std::min(cpu_[c].end, stretch.end) - std::max(cpu_[c].begin, stretch.begin);
    }
  }
  stats.accelerators_seconds += Seconds(at_work);
  stats.overlap_seconds += Seconds(overlap);
}

}  // namespace thermocline
