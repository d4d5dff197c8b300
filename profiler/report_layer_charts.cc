// Charts with one bar a layer: skewness and coverage.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "profiler/report_sections.h"
#include "profiler/report_text.h"
#include "profiler/svg.h"

namespace thermocline {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// One quantity: a bar a layer for the profiled text, a dot for the held-out text, a line for the whole model.
struct LayerChart {
  std::string id;
  std::string title;
  std::string description;
  std::string bar_class;
  double width = 600;
  std::vector<double> profiled;
  std::vector<double> held_out;  // empty when no text was held out
  double model = kNone;
  std::function<std::string(double)> format;
  std::vector<double> values = {0, 0.25, 0.5, 0.75, 1};  // ticks of the vertical axis, from end to end
};

std::string Tip(const LayerChart& chart, size_t layer) {
  std::string tip = fmt::format("Layer {}: {}", layer, chart.format(chart.profiled[layer]));
  if (!chart.held_out.empty())
    tip += fmt::format(", on held-out text {}", chart.format(chart.held_out[layer]));
  return tip;
}

void DrawBars(Svg& svg, const LayerChart& chart, const PlotArea& area, const LinearScale& y) {
  const double slot =
      (area.right - area.left) / static_cast<double>(std::max<size_t>(chart.profiled.size(), 1));
  const double width = std::clamp(slot * 0.72, 1.0, 72.0);
  for (size_t layer = 0; layer < chart.profiled.size(); ++layer) {
    const double middle = area.left + slot * (static_cast<double>(layer) + 0.5);
    const int number = static_cast<int>(layer);
    if (std::isfinite(chart.profiled[layer])) {
      const double top = std::min(y(chart.profiled[layer]), y(0));
      svg.Rect({middle - width / 2, top}, width, std::abs(y(chart.profiled[layer]) - y(0)),
               {chart.bar_class, Tip(chart, layer), number});
    }
    if (!chart.held_out.empty() && std::isfinite(chart.held_out[layer])) {
      svg.Circle({middle, y(chart.held_out[layer])}, std::clamp(slot * 0.3, 1.6, 4.0),
                 {"held-out", Tip(chart, layer), number});
    }
  }
}

std::vector<Tick> LayerTicks(size_t layers) {
  const double last = static_cast<double>(layers) - 1;
  const double step = layers <= 12 ? 1 : RoundTicks(last, 10)[1];
  std::vector<Tick> ticks;
  for (double layer = 0; layer <= last; layer += step) ticks.push_back({layer + 0.5, FormatNumber(layer)});
  return ticks;
}

std::vector<Tick> ValueTicks(const LayerChart& chart) {
  std::vector<Tick> ticks;
  for (const double value : chart.values) ticks.push_back({value, chart.format(value)});
  return ticks;
}

std::string Draw(const LayerChart& chart) {
  const PlotArea area = {54, 34, chart.width - 12, 184};
  const LinearScale y = {chart.values.front(), chart.values.back(), area.bottom, area.top};
  Svg svg(chart.id, chart.width, 228, chart.title, chart.description);
  svg.VerticalAxis(area, y, ValueTicks(chart), chart.title);
  DrawBars(svg, chart, area, y);
  if (std::isfinite(chart.model)) {
    svg.Line({area.left, y(chart.model)}, {area.right, y(chart.model)},
             {"model-line", "Whole model: " + chart.format(chart.model)});
    svg.Text({area.right, area.top - 12}, "whole model " + chart.format(chart.model), "note-label end");
  }
  const LinearScale x = {0, std::max(1., static_cast<double>(chart.profiled.size())), area.left, area.right};
  svg.HorizontalAxis(area, x, LayerTicks(chart.profiled.size()), "layer");
  return "<figure>" + std::move(svg).Finish() + "</figure>\n";
}

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
    chart.profiled.push_back(layer.active() ? layer.profiled.*quantity : kNone);
    if (figures.has_held_out)
      chart.held_out.push_back(std::isfinite(layer.held_out_coverage) ? layer.held_out.*quantity : kNone);
  }
  if (figures.model.active()) chart.model = figures.model.profiled.*quantity;
  chart.format = FormatShare;
  return chart;
}

LayerChart ThirdMomentChart(const ReportFigures& figures) {
  LayerChart chart =
      SkewnessChart(figures, "third-moment-chart", "Third standardised moment", &Skewness::third_moment);
  chart.format = FormatNumber;
  double least = 0;
  double greatest = 0;
  for (const std::vector<double>* values : {&chart.profiled, &chart.held_out}) {
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
  charts += Draw(SkewnessChart(figures, "sparsity-chart", "Sparsity", &Skewness::sparsity));
  charts += Draw(SkewnessChart(figures, "share-chart", "Neurons that make 80 %", &Skewness::share_for_80));
  charts += Draw(gini);
  charts += Draw(ThirdMomentChart(figures));
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
    chart.profiled.push_back(layer.coverage);
    if (figures.has_held_out) chart.held_out.push_back(layer.held_out_coverage);
  }
  chart.model = figures.model.coverage;
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
                 Legend("bar-warm", figures.has_held_out) + Draw(chart));
}

}  // namespace thermocline
