// Draws bars, whiskers and curves.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "profiler/report_text.h"
#include "profiler/svg.h"

namespace thermocline {
namespace {

constexpr double kWidth = 620, kLeastLeft = 128, kMostLeft = 250, kRight = 540, kTop = 18;
constexpr double kLetter = 8;  // the width of most letters of a label
constexpr double kThick = 24, kThin = 9, kGap = 16, kJoined = 4;

bool IsBefore(const BenchBar& bar) { return bar.css_class == "bar-before"; }

double GreatestOf(const BarChart& chart) {
  double greatest = 0;
  for (const BenchBar& bar : chart.bars) {
    for (const double value : {bar.value + bar.rest, bar.high, bar.limit}) {
      if (std::isfinite(value)) greatest = std::max(greatest, value);
    }
  }
  return greatest;
}

// Where bars start: right of the longest label.
double LeftOf(const BarChart& chart) {
  size_t longest = 0;
  for (const BenchBar& bar : chart.bars) longest = std::max(longest, bar.label.size());
  return std::clamp(kLetter * static_cast<double>(longest) + 10, kLeastLeft, kMostLeft);
}

void DrawSpread(Svg& svg, const BenchBar& bar, const LinearScale& x, double middle, double half) {
  if (!std::isfinite(bar.low) || !std::isfinite(bar.high)) return;
  const Mark line = {"whisker", bar.tip};
  svg.Line({x(bar.low), middle}, {x(bar.high), middle}, line);
  for (const double end : {bar.low, bar.high})
    svg.Line({x(end), middle - half}, {x(end), middle + half}, line);
  for (const double sample : bar.samples) {
    if (std::isfinite(sample)) svg.Circle({x(sample), middle}, 2, {"sample"});
  }
}

void DrawBar(Svg& svg, const BarChart& chart, const BenchBar& bar, const LinearScale& x, double top) {
  const double height = IsBefore(bar) ? kThin : kThick;
  const double middle = top + height / 2;
  const double left = x(0);
  if (!bar.label.empty()) svg.Text({left - 10, middle + 5}, bar.label, "bar-label end");
  if (!std::isfinite(bar.value)) return;
  double end = bar.value;
  svg.Rect({left, top}, x(bar.value) - left, height, {bar.css_class, bar.tip});
  if (std::isfinite(bar.limit)) {
    svg.Rect({left, top}, x(bar.limit) - left, height, {"limit", bar.limit_is});
    end = std::max(end, bar.limit);
  }
  if (bar.rest > 0) {
    svg.Rect({x(bar.value), top}, x(bar.value + bar.rest) - x(bar.value), height, {"bar-rest", bar.tip});
    end += bar.rest;
  }
  DrawSpread(svg, bar, x, middle, height / 4);
  if (std::isfinite(bar.high)) end = std::max(end, bar.high);
  svg.Text({x(end) + 8, middle + (IsBefore(bar) ? 4 : 5)}, chart.format(bar.value + bar.rest),
           IsBefore(bar) ? "tick" : "bar-figure");
}

// ---- The crossover

constexpr PlotArea kArea = {58, 34, 1150, 380};

// Powers of ten and their halves and fifths that enclose the values.
std::vector<double> LogTicks(double least, double greatest) {
  std::vector<double> ticks;
  const double first = std::floor(std::log10(least)), last = std::ceil(std::log10(greatest));
  for (double power = first; power <= last; ++power) {
    for (const double factor : {1., 2., 5.}) ticks.push_back(factor * std::pow(10, power));
  }
  while (ticks.size() > 2 && ticks[1] <= least) ticks.erase(ticks.begin());
  while (ticks.size() > 2 && ticks[ticks.size() - 2] >= greatest) ticks.pop_back();
  return ticks;
}

bool IsDrawn(double value) { return std::isfinite(value) && value > 0; }

struct CrossoverScales {
  LinearScale x = {0, 1, kArea.left, kArea.right};
  LinearScale log_y;
  Point At(double sparsity, double speedup) const { return {x(sparsity), log_y(std::log10(speedup))}; }
};

void DrawCurve(Svg& svg, const CrossoverScales& scales, const std::vector<CrossoverPoint>& points,
               double CrossoverPoint::*value, const Mark& mark) {
  std::vector<Point> line;
  for (const CrossoverPoint& point : points) {
    if (IsDrawn(point.*value)) line.push_back(scales.At(point.sparsity, point.*value));
  }
  if (line.size() > 1) svg.Path(PolylineData(line), mark);
}

void DrawBand(Svg& svg, const CrossoverScales& scales, const std::vector<CrossoverPoint>& points) {
  std::vector<Point> edge;
  for (const CrossoverPoint& point : points) {
    if (IsDrawn(point.high)) edge.push_back(scales.At(point.sparsity, point.high));
  }
  for (auto point = points.rbegin(); point != points.rend(); ++point) {
    if (IsDrawn(point->low)) edge.push_back(scales.At(point->sparsity, point->low));
  }
  if (edge.size() > 2) svg.Path(PolylineData(edge) + "Z", {"band"});
}

}  // namespace

std::string DrawBarChart(const BarChart& chart) {
  double bottom = kTop;
  for (const BenchBar& bar : chart.bars)
    bottom += (IsBefore(bar) ? kThin : kThick) + (bar.label.empty() ? kJoined : kGap);
  const double greatest = GreatestOf(chart);
  double unit = 1;
  while (chart.tick_base > 10 && greatest / unit >= chart.tick_base) unit *= chart.tick_base;
  std::vector<double> values = RoundTicks(greatest / unit, 4);
  for (double& value : values) value *= unit;
  const double left = LeftOf(chart);
  const LinearScale x = {0, values.back(), left, kRight};
  const PlotArea area = {left, kTop, kRight, bottom + kGap};
  Svg svg(chart.id, kWidth, area.bottom + 46, chart.title, chart.description);
  std::vector<Tick> ticks;
  for (const double value : values) {
    ticks.push_back({value, chart.format(value)});
    svg.Line({x(value), area.top}, {x(value), area.bottom}, {"grid"});
  }
  svg.HorizontalAxis(area, x, ticks, chart.title);
  double top = kTop;
  for (const BenchBar& bar : chart.bars) {
    top += bar.label.empty() ? kJoined : kGap;
    DrawBar(svg, chart, bar, x, top);
    top += IsBefore(bar) ? kThin : kThick;
  }
  return "<figure>" + std::move(svg).Finish() + "</figure>\n";
}

std::string DrawCrossover(const std::vector<CrossoverPoint>& points) {
  double least = 1, greatest = 1.5;
  for (const CrossoverPoint& point : points) {
    for (const double value : {point.speedup, point.low, point.high, point.bound, point.before}) {
      if (!IsDrawn(value)) continue;
      least = std::min(least, value);
      greatest = std::max(greatest, value);
    }
  }
  const std::vector<double> levels = LogTicks(least, greatest);
  const CrossoverScales scales = {
      .log_y = {std::log10(levels.front()), std::log10(levels.back()), kArea.bottom, kArea.top}};
  Svg svg(
      "crossover-chart", 1180, 432, "Speed-up of a sparse feed-forward block",
      "How many times as fast as the dense block, for each share of silent neurons, beside what the bytes "
      "allow.");
  std::vector<Tick> vertical, horizontal;
  for (const double level : levels) vertical.push_back({std::log10(level), FormatNumber(level) + "\u00d7"});
  for (int percent = 0; percent <= 100; percent += 10)
    horizontal.push_back({percent / 100.0, fmt::format("{}\u00a0%", percent)});
  svg.VerticalAxis(kArea, scales.log_y, vertical, "speed-up");
  svg.HorizontalAxis(kArea, scales.x, horizontal, "silent neurons");
  svg.Line(scales.At(0, 1), scales.At(1, 1), {"equality", "As fast as dense"});
  DrawBand(svg, scales, points);
  DrawCurve(svg, scales, points, &CrossoverPoint::bound, {"bound-line", "What the bytes allow"});
  DrawCurve(svg, scales, points, &CrossoverPoint::before, {"before-line", "The baseline"});
  DrawCurve(svg, scales, points, &CrossoverPoint::speedup, {"speedup-line", "Measured"});
  for (const CrossoverPoint& point : points) {
    if (!IsDrawn(point.speedup)) continue;
    svg.Circle(scales.At(point.sparsity, point.speedup), 5,
               {"speedup-point",
                fmt::format("{} silent: {}\u00d7 ({} to {}), the bytes allow {}\u00d7",
                            FormatShare(point.sparsity), FormatNumber(point.speedup), FormatNumber(point.low),
                            FormatNumber(point.high), FormatNumber(point.bound))});
  }
  return "<figure>" + std::move(svg).Finish() + "</figure>\n";
}

}  // namespace thermocline
