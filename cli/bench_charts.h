// Charts of a bench result: bars by mode with their spread, and the crossover curve.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace thermocline {

inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

// One bar. What is not finite is left out.
struct BenchBar {
  std::string label;            // left of it; empty: it belongs to the bar above
  std::string css_class;        // "bar-exact"; "bar-before" is a baseline's, thinner
  double value = kNotMeasured;  // its length
  double rest = 0;              // a second part behind it
  double low = kNotMeasured;    // the spread
  double high = kNotMeasured;
  std::vector<double> samples;  // dots
  double limit = kNotMeasured;  // an outline up to here
  std::string limit_is;         // "its bytes allow 2.1"
  std::string tip;              // what the pointer reads
};

struct BarChart {
  std::string id;
  std::string title;  // of the axis too
  std::string description;
  std::vector<BenchBar> bars;
  std::function<std::string(double)> format;
  double tick_base = 10;  // ticks are round multiples of a power of it; 1024 for bytes
};

// A figure, fit for a page once (the id).
std::string DrawBarChart(const BarChart& chart);

struct CrossoverPoint {
  double sparsity = 0;
  double speedup = kNotMeasured;  // median
  double low = kNotMeasured;
  double high = kNotMeasured;
  double bound = kNotMeasured;   // what the bytes allow
  double before = kNotMeasured;  // a baseline's median
};

// A figure of speed-up over sparsity, its vertical axis logarithmic; points ascending in sparsity.
std::string DrawCrossover(const std::vector<CrossoverPoint>& points);

}  // namespace thermocline
