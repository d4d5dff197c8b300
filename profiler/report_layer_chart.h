// LayerChart: a chart of the report with one bar a layer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace thermocline {

// One quantity: a bar a layer, as a rule for the profiled text, perhaps a dot, as a rule for the held-out
// text, and a line across, as a rule for the whole model. What is not finite is left out.
struct LayerChart {
  std::string id;
  std::string title;
  std::string description;
  std::string bar_class;
  double width = 600;
  std::vector<double> bars;
  std::vector<double> dots;  // empty: none
  std::string dots_are = "on held-out text";
  double line = std::numeric_limits<double>::quiet_NaN();
  std::string line_is = "whole model";
  std::function<std::string(double)> format;
  std::vector<double> values = {0, 0.25, 0.5, 0.75, 1};  // ticks of the vertical axis, from end to end
};

// A figure, fit for a page once (the id).
std::string DrawLayerChart(const LayerChart& chart);

}  // namespace thermocline
