// LayerChart: bars, dots, line and axes.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report_layer_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "profiler/report_text.h"
#include "profiler/svg.h"

namespace thermocline {
namespace {

std::string Tip(const LayerChart& chart, size_t layer) {
  std::string tip = fmt::format("Layer {}: {}", layer, chart.format(chart.bars[layer]));
  if (!chart.dots.empty()) tip += fmt::format(", {} {}", chart.dots_are, chart.format(chart.dots[layer]));
  return tip;
}

void DrawBars(Svg& svg, const LayerChart& chart, const PlotArea& area, const LinearScale& y) {
  const double slot = (area.right - area.left) / static_cast<double>(std::max<size_t>(chart.bars.size(), 1));
  const double width = std::clamp(slot * 0.72, 1.0, 72.0);
  for (size_t layer = 0; layer < chart.bars.size(); ++layer) {
    const double middle = area.left + slot * (static_cast<double>(layer) + 0.5);
    const int number = static_cast<int>(layer);
    if (std::isfinite(chart.bars[layer])) {
      const double top = std::min(y(chart.bars[layer]), y(0));
      svg.Rect({middle - width / 2, top}, width, std::abs(y(chart.bars[layer]) - y(0)),
               {chart.bar_class, Tip(chart, layer), number});
    }
    if (!chart.dots.empty() && std::isfinite(chart.dots[layer])) {
      svg.Circle({middle, y(chart.dots[layer])}, std::clamp(slot * 0.3, 1.6, 4.0),
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

}  // namespace

std::string DrawLayerChart(const LayerChart& chart) {
  const PlotArea area = {54, 34, chart.width - 12, 184};
  const LinearScale y = {chart.values.front(), chart.values.back(), area.bottom, area.top};
  Svg svg(chart.id, chart.width, 228, chart.title, chart.description);
  svg.VerticalAxis(area, y, ValueTicks(chart), chart.title);
  DrawBars(svg, chart, area, y);
  if (std::isfinite(chart.line)) {
    svg.Line({area.left, y(chart.line)}, {area.right, y(chart.line)},
             {"model-line", chart.line_is + ": " + chart.format(chart.line)});
    svg.Text({area.right, area.top - 12}, chart.line_is + " " + chart.format(chart.line), "note-label end");
  }
  const LinearScale x = {0, std::max(1., static_cast<double>(chart.bars.size())), area.left, area.right};
  svg.HorizontalAxis(area, x, LayerTicks(chart.bars.size()), "layer");
  return "<figure>" + std::move(svg).Finish() + "</figure>\n";
}

}  // namespace thermocline
