// Charts with one bar a layer: skewness and coverage.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "profiler/report_layer_chart.h"
#include "profiler/report_sections.h"
#include "profiler/report_text.h"
#include "profiler/svg.h"

namespace thermocline {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::string Legend(std::string_view bar_class, bool has_held_out) {
  return fmt::format(
      "<p class=\"legend\"><span class=\"key {}\"></span>profiled text{}<span class=\"key "
      "model-key\"></span>whole model</p>\n",
      bar_class, has_held_out ? "<span class=\"key held-out-key\"></span>held-out text" : "");
}

// Takes one quantity out of every layer; layers in which nothing was active have none.
LayerChart SkewnessChart(const ReportFigures& figures, std::string_view id, std::string_view title,
                         double Skewness::*quantity) {
  LayerChart chart = {.id = std::string(id), .title = std::string(title), .bar_class = "bar-cool"};
  chart.description = fmt::format("{} of every layer, as in the table at the end.", title);
  for (const LayerFigures& layer : figures.layers) {
    chart.bars.push_back(layer.active() ? layer.profiled.*quantity : kNone);
    if (figures.has_held_out)
      chart.dots.push_back(std::isfinite(layer.held_out_coverage) ? layer.held_out.*quantity : kNone);
  }
  if (figures.model.active()) chart.line = figures.model.profiled.*quantity;
  chart.format = FormatShare;
  return chart;
}

LayerChart ThirdMomentChart(const ReportFigures& figures) {
  LayerChart chart =
      SkewnessChart(figures, "third-moment-chart", "Third standardised moment", &Skewness::third_moment);
  chart.format = FormatNumber;
  double least = 0;
  double greatest = 0;
  for (const std::vector<double>* values : {&chart.bars, &chart.dots}) {
    for (const double value : *values) {
      if (!std::isfinite(value)) continue;
      least = std::min(least, value);
      greatest = std::max(greatest, value);
    }
  }
  const double step = RoundTicks(std::max(-least, greatest), 4)[1];
  chart.values.clear();
  for (double i = std::floor(least / step); i <= std::max(1., std::ceil(greatest / step)); ++i) {
    chart.values.push_back(i * step);
  }
  return chart;
}

}  // namespace

std::string RenderSkewness(const ReportFigures& figures) {
  LayerChart gini = SkewnessChart(figures, "gini-chart", "Gini coefficient", &Skewness::gini);
  gini.format = FormatNumber;
  std::string charts;
  charts += DrawLayerChart(SkewnessChart(figures, "sparsity-chart", "Sparsity", &Skewness::sparsity));
  charts += DrawLayerChart(
      SkewnessChart(figures, "share-chart", "Neurons that make 80 %", &Skewness::share_for_80));
  charts += DrawLayerChart(gini);
  charts += DrawLayerChart(ThirdMomentChart(figures));
  return Section(
      "skewness", "Skewness of each layer",
      "Sparsity is the share of silent pairs of token and neuron. The fewer neurons make 80 % of the "
      "activations, and the higher Gini coefficient and third moment are, the more a small hot set gains.",
      Legend("bar-cool", figures.has_held_out) + "<div class=\"multiples\">\n" + charts + "</div>\n");
}

std::string RenderCoverage(const ReportInput& input, const ReportFigures& figures) {
  LayerChart chart = {.id = "coverage-chart", .title = "Coverage", .bar_class = "bar-warm", .width = 1180};
  chart.description = "Share of each layer's activations that fall on hot neurons.";
  for (const LayerFigures& layer : figures.layers) {
    chart.bars.push_back(layer.coverage);
    if (figures.has_held_out) chart.dots.push_back(layer.held_out_coverage);
  }
  chart.line = figures.model.coverage;
  chart.format = FormatShare;
  const std::string introduction =
      figures.has_held_out
          ? fmt::format(
                "Share of activations that fall on hot neurons. On text that the plan has not seen it is {}, "
                "on the "
                "profiled text {}: the closer the two, the better the hot set carries over.",
                FormatShare(input.plan->prediction.held_out_coverage),
                FormatShare(input.plan->prediction.coverage))
          : std::string(
                "Share of activations that fall on hot neurons. No text was held out, so these figures are "
                "those of the text the plan was made from.");
  return Section("coverage", "Coverage of each layer", introduction,
                 Legend("bar-warm", figures.has_held_out) + DrawLayerChart(chart));
}

}  // namespace thermocline
