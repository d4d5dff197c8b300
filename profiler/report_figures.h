// ReportFigures: what the report shows, worked out of profile and plan.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "profiler/report.h"
#include "profiler/skewness.h"

namespace thermocline {

// Of one layer, or of all layers taken together. A coverage is not a number where nothing was active.
struct LayerFigures {
  std::vector<double> frequency;  // (neurons), on the profiled text, descending
  int64_t hot_neurons = 0;
  int64_t silent_neurons = 0;  // never active in the profiled text
  Skewness profiled;
  Skewness held_out;
  double coverage = 0;
  double held_out_coverage = 0;

  int64_t neurons() const { return static_cast<int64_t>(frequency.size()); }
  bool active() const { return !frequency.empty() && frequency.front() > 0; }
};

struct ReportFigures {
  std::vector<LayerFigures> layers;
  LayerFigures model;
  bool has_held_out = false;
  bool has_accelerator = false;
  bool emulated = false;                    // the CPU stands in for an accelerator
  std::string accelerator = "accelerator";  // what to call it: "GPU", "emulated accelerator"
};

ReportFigures WorkOutFigures(const ReportInput& input);

// Share of activations that the most frequent `share` of neurons make, by linear interpolation. Not a number
// where nothing is active. Both functions take a frequency in descending order.
double ActivationShare(const std::vector<double>& cumulative, double share);
// (neurons + 1), sums of the first i frequencies.
std::vector<double> Cumulative(const std::vector<double>& frequency);

}  // namespace thermocline
