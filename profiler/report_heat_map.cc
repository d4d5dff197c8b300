// The heat map: layers, each one's neurons by frequency, and the border of hot and cold.
// SPDX-License-Identifier: Apache-2.0
//
// A row falls from left to right, so each of the colour's levels is one stretch from the left edge; painting
// the stretches from cold to hot gives the exact picture with at most kLevels shapes, however many neurons
// there are.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "profiler/report_sections.h"
#include "profiler/report_text.h"
#include "profiler/svg.h"

namespace thermocline {
namespace {

constexpr int kLevels = 64;
constexpr size_t kReadOutColumns = 512;
constexpr double kWidth = 1180;

// Evenly spaced in lightness, from deep cold water to the warm surface.
constexpr std::array<std::array<double, 3>, 9> kRamp = {{{0x0b, 0x21, 0x4c},
                                                         {0x1f, 0x32, 0x73},
                                                         {0x47, 0x3f, 0x94},
                                                         {0x7b, 0x4c, 0xa0},
                                                         {0xb6, 0x57, 0x90},
                                                         {0xe3, 0x6b, 0x6b},
                                                         {0xfc, 0x8e, 0x59},
                                                         {0xff, 0xb6, 0x5e},
                                                         {0xff, 0xe2, 0x79}}};

std::string RampColour(double part) {
  const double position = std::clamp(part, 0.0, 1.0) * static_cast<double>(kRamp.size() - 1);
  const size_t below = std::min(static_cast<size_t>(position), kRamp.size() - 2);
  const double rest = position - static_cast<double>(below);
  std::array<int, 3> channels;
  for (size_t i = 0; i < channels.size(); ++i) {
    channels[i] = static_cast<int>(std::lround(std::lerp(kRamp[below][i], kRamp[below + 1][i], rest)));
  }
  return fmt::format("#{:02x}{:02x}{:02x}", channels[0], channels[1], channels[2]);
}

// Colour follows the square root, which shows the many rare neurons as well as the few frequent ones.
double ColourPart(double frequency) { return std::sqrt(std::clamp(frequency, 0.0, 1.0)); }
double LeastFrequency(int level) { return std::pow(static_cast<double>(level) / kLevels, 2); }
std::string LevelColour(int level) { return RampColour((level + 0.5) / kLevels); }

struct Rows {
  PlotArea area;
  double height = 0;

  double top(size_t layer) const { return area.top + height * static_cast<double>(layer); }
  double middle(size_t layer) const { return top(layer) + height / 2; }
};

Rows LayOut(size_t layers) {
  const double count = static_cast<double>(std::max<size_t>(layers, 1));
  const double height = std::clamp(std::floor(560 / count), 4.0, 36.0);
  return {{54, 64, kWidth - 12, 64 + height * count}, height};
}

double PartAtLeast(const LayerFigures& layer, double frequency) {
  const auto end = std::ranges::lower_bound(layer.frequency, frequency, std::greater_equal<>());
  return static_cast<double>(end - layer.frequency.begin()) / static_cast<double>(layer.neurons());
}

double PartActive(const LayerFigures& layer) {
  return static_cast<double>(layer.neurons() - layer.silent_neurons) / static_cast<double>(layer.neurons());
}

// One path a level: a stroke as thick as a row for each layer that reaches the level.
void DrawCells(Svg& svg, const ReportFigures& figures, const Rows& rows) {
  const double width = rows.area.right - rows.area.left;
  svg.Rect({rows.area.left, rows.area.top}, width, rows.area.bottom - rows.area.top, {"silent"});
  for (int level = 0; level < kLevels; ++level) {
    std::string data;
    for (size_t i = 0; i < figures.layers.size(); ++i) {
      const LayerFigures& layer = figures.layers[i];
      if (layer.frequency.empty()) continue;
      const double part = level == 0 ? PartActive(layer)
                                     : std::min(PartAtLeast(layer, LeastFrequency(level)), PartActive(layer));
      if (part <= 0) continue;
      data += fmt::format("M{} {}h{}", FormatCoordinate(rows.area.left), FormatCoordinate(rows.middle(i)),
                          FormatCoordinate(part * width));
    }
    if (data.empty()) continue;
    svg.Path(data,
             {"cells", "", -1,
              fmt::format("stroke:{};stroke-width:{}", LevelColour(level), FormatCoordinate(rows.height))});
  }
}

// Steps down the rows at each layer's number of hot neurons.
std::string BorderData(const ReportFigures& figures, const Rows& rows) {
  const LinearScale x = {0, 1, rows.area.left, rows.area.right};
  std::string data;
  for (size_t i = 0; i < figures.layers.size(); ++i) {
    const LayerFigures& layer = figures.layers[i];
    const double part = layer.frequency.empty()
                            ? 0
                            : static_cast<double>(layer.hot_neurons) / static_cast<double>(layer.neurons());
    const std::string at = FormatCoordinate(x(part));
    data += data.empty() ? fmt::format("M{} {}", at, FormatCoordinate(rows.top(i))) : fmt::format("H{}", at);
    data += fmt::format("V{}", FormatCoordinate(rows.top(i + 1)));
  }
  return data;
}

void DrawLayerLabels(Svg& svg, const ReportFigures& figures, const Rows& rows) {
  const double last = static_cast<double>(figures.layers.size()) - 1;
  const double step = rows.height >= 16 ? 1 : std::max(1.0, RoundTicks(std::max(last, 1.0), 12)[1]);
  for (double layer = 0; layer <= last; layer += step) {
    svg.Text({rows.area.left - 8, rows.middle(static_cast<size_t>(layer)) + 4}, FormatNumber(layer),
             "tick end");
  }
  svg.Text({rows.area.left - 8, rows.area.top - 10}, "layer", "axis-label end");
}

void DrawLegend(Svg& svg, bool has_border) {
  constexpr double kLegendWidth = 384;
  const LinearScale x = {0, 1, kWidth - 12 - kLegendWidth, kWidth - 12};
  svg.Text({x(0) - 12, 20}, "share of tokens", "axis-label end");
  for (int level = 0; level < kLevels; ++level) {
    const double left = x(static_cast<double>(level) / kLevels);
    svg.Rect({left, 8}, kLegendWidth / kLevels, 14, {"swatch", "", -1, "fill:" + LevelColour(level)});
  }
  for (const double frequency : {0.01, 0.05, 0.25, 0.5, 1.0}) {
    svg.Text({x(ColourPart(frequency)), 38}, FormatShare(frequency),
             frequency == 1 ? "tick end" : "tick middle");
  }
  svg.Rect({54, 8}, 14, 14, {"silent"});
  svg.Text({75, 20}, "never active", "axis-label");
  if (!has_border) return;
  svg.Path("M202 15h26", {"border-halo"});
  svg.Path("M202 15h26", {"border"});
  svg.Text({237, 20}, "border of hot and cold", "axis-label");
}

// The mean frequencies of up to kReadOutColumns stretches of a row, each as two digits of base 64, square
// root like the colour; for the script that tells the figure under the pointer.
std::string ReadOutRow(const LayerFigures& layer, size_t columns) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string row;
  for (size_t column = 0; column < columns; ++column) {
    const size_t begin = column * layer.frequency.size() / columns;
    const size_t end = (column + 1) * layer.frequency.size() / columns;
    const double sum = std::accumulate(layer.frequency.begin() + static_cast<ptrdiff_t>(begin),
                                       layer.frequency.begin() + static_cast<ptrdiff_t>(end), 0.0);
    const auto code = static_cast<size_t>(
        std::lround(ColourPart(sum / static_cast<double>(std::max<size_t>(end - begin, 1))) * 4095));
    row += kDigits[code / 64];
    row += kDigits[code % 64];
  }
  return row;
}

std::string ReadOutData(const ReportFigures& figures) {
  std::string layers;
  for (const LayerFigures& layer : figures.layers) {
    const size_t columns = std::min(layer.frequency.size(), kReadOutColumns);
    layers += fmt::format("{}{{\"neurons\":{},\"hot\":{},\"columns\":{},\"row\":\"{}\"}}",
                          layers.empty() ? "" : ",\n", layer.neurons(), layer.hot_neurons, columns,
                          ReadOutRow(layer, columns));
  }
  return fmt::format("<script type=\"application/json\" id=\"heat-data\">[{}]</script>\n", layers);
}

std::string Introduction(const ReportFigures& figures) {
  const std::string_view where = figures.has_accelerator
                                     ? "Left of the border are the hot neurons, which the plan keeps on the "
                                     : "The plan has no accelerator, so every neuron is cold";
  return fmt::format(
      "Each row is a layer, the first on top; its neurons go from the most to the least frequently active, "
      "coloured by the share of tokens for which they are. {}{}.",
      where, figures.has_accelerator ? figures.accelerator : "");
}

}  // namespace

std::string RenderHeatMap(const ReportInput& input, const ReportFigures& figures) {
  const Rows rows = LayOut(figures.layers.size());
  Svg svg("heat-map", kWidth, rows.area.bottom + 48, "Heat map of neuron frequencies",
          fmt::format("{} layers of {} neurons, coloured by how often each is active; {} neurons are hot.",
                      figures.layers.size(), FormatCount(input.profile->d_ff),
                      FormatCount(figures.model.hot_neurons)));
  DrawLegend(svg, figures.model.hot_neurons > 0);
  DrawCells(svg, figures, rows);
  if (figures.model.hot_neurons > 0) {
    const std::string border = BorderData(figures, rows);
    svg.Path(border, {"border-halo"});
    svg.Path(border, {"border"});
  }
  DrawLayerLabels(svg, figures, rows);
  std::vector<Tick> ticks;
  for (int tenth = 0; tenth <= 10; ++tenth) ticks.push_back({tenth / 10., FormatShare(tenth / 10.)});
  svg.HorizontalAxis(rows.area, {0, 1, rows.area.left, rows.area.right}, ticks,
                     "neurons of the layer, the most frequent first");
  svg.Rect({rows.area.left, rows.area.top}, rows.area.right - rows.area.left,
           rows.area.bottom - rows.area.top, {"heat-target"});
  return Section("frequencies", "Which neurons are hot", Introduction(figures),
                 "<figure>" + std::move(svg).Finish() + "</figure>\n" + ReadOutData(figures));
}

}  // namespace thermocline
