// How few neurons make most activations: the curve of every layer, and the whole model's figures.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "profiler/report_sections.h"
#include "profiler/report_text.h"
#include "profiler/svg.h"

namespace thermocline {
namespace {

constexpr PlotArea kArea = {58, 34, 606, 370};
constexpr LinearScale kX = {0, 1, kArea.left, kArea.right};
constexpr LinearScale kY = {0, 1, kArea.bottom, kArea.top};

// Closer together on the left, where the curves bend.
std::string CurveData(const LayerFigures& figures) {
  constexpr int kSteps = 64;
  const std::vector<double> cumulative = Cumulative(figures.frequency);
  std::vector<Point> points;
  for (int step = 0; step <= kSteps; ++step) {
    const double share = std::pow(static_cast<double>(step) / kSteps, 2);
    points.push_back({kX(share), kY(ActivationShare(cumulative, share))});
  }
  return PolylineData(points);
}

// Where a layer lies between the first (0 %) and the last (100 %); the style sheet makes a colour of it.
std::string DepthStyle(size_t layer, size_t layers) {
  return fmt::format("--depth:{:.0f}%",
                     layers < 2 ? 0. : 100. * static_cast<double>(layer) / static_cast<double>(layers - 1));
}

void DrawLayers(Svg& svg, const ReportFigures& figures) {
  for (size_t i = 0; i < figures.layers.size(); ++i) {
    const LayerFigures& layer = figures.layers[i];
    if (!layer.active()) continue;
    svg.Path(CurveData(layer), {"curve depth",
                                fmt::format("Layer {}: {} of the neurons make 80\u00a0%", i,
                                            FormatShare(layer.profiled.share_for_80)),
                                static_cast<int>(i), DepthStyle(i, figures.layers.size())});
  }
}

void DrawModel(Svg& svg, const LayerFigures& model) {
  if (!model.active()) {
    svg.Text({(kArea.left + kArea.right) / 2, 200}, "no neuron was active", "axis-label middle");
    return;
  }
  svg.Line({kX(0), kY(0)}, {kX(1), kY(1)}, {"equality", "If all neurons were equal"});
  const double share = model.profiled.share_for_80;
  svg.Path(CurveData(model), {"curve model", "Whole model"});
  svg.Line({kArea.left, kY(0.8)}, {kX(share), kY(0.8)}, {"mark"});
  svg.Line({kX(share), kY(0.8)}, {kX(share), kArea.bottom}, {"mark"});
  svg.Circle({kX(share), kY(0.8)}, 5, {"mark-dot"});
  const bool right = share < 0.55;
  svg.Text({kX(share) + (right ? 10 : -10), kArea.bottom - 14},
           fmt::format("whole model: {} make 80\u00a0%", FormatShare(share)),
           right ? "note-label" : "note-label end");
}

void DrawLegend(Svg& svg, size_t layers) {
  if (layers < 2) return;
  constexpr int kSteps = 24;
  constexpr double kLeft = 470;
  for (int step = 0; step < kSteps; ++step) {
    svg.Rect({kLeft + step * 4., 12}, 4, 8,
             {"depth-swatch", "", -1, fmt::format("--depth:{}%", step * 100 / (kSteps - 1))});
  }
  svg.Text({kLeft - 8, 21}, "layer 0", "tick end");
  svg.Text({kLeft + kSteps * 4 + 8, 21}, fmt::format("{}", layers - 1), "tick");
}

std::string Chart(const ReportFigures& figures) {
  Svg svg("concentration-chart", 640, 420, "Share of activations against share of neurons",
          fmt::format(
              "One curve a layer and a bold one for the whole model, in which {} of the neurons make 80 % of "
              "the activations.",
              FormatShare(figures.model.profiled.share_for_80)));
  std::vector<Tick> ticks;
  for (int fifth = 0; fifth <= 5; ++fifth) ticks.push_back({fifth / 5., FormatShare(fifth / 5.)});
  svg.VerticalAxis(kArea, kY, ticks, "share of activations");
  svg.HorizontalAxis(kArea, kX, ticks, "share of neurons, the most frequent first");
  DrawLayers(svg, figures);
  DrawModel(svg, figures.model);
  DrawLegend(svg, figures.layers.size());
  return std::move(svg).Finish();
}

struct ShareRow {
  std::string_view name;
  double Skewness::*share;
};
constexpr std::array<ShareRow, 4> kShareRows = {{{"50 %", &Skewness::share_for_50},
                                                 {"80 %", &Skewness::share_for_80},
                                                 {"90 %", &Skewness::share_for_90},
                                                 {"99 %", &Skewness::share_for_99}}};

// Least and greatest over the layers that were active.
std::string RangeOverLayers(const ReportFigures& figures, double Skewness::*share) {
  double least = INFINITY;
  double greatest = -INFINITY;
  for (const LayerFigures& layer : figures.layers) {
    if (!layer.active()) continue;
    least = std::min(least, layer.profiled.*share);
    greatest = std::max(greatest, layer.profiled.*share);
  }
  if (least > greatest) return "–";
  return FormatColumnShare(least) + " to " + FormatColumnShare(greatest);
}

std::string ShareTable(const ReportFigures& figures) {
  std::string rows;
  for (const ShareRow& row : kShareRows) {
    rows += fmt::format("<tr><th scope=\"row\">{}</th>", EscapeHtml(row.name));
    rows += Cell(figures.model.active() ? FormatColumnShare(figures.model.profiled.*row.share) : "–",
                 "number strong");
    rows += Cell(figures.has_held_out ? FormatColumnShare(figures.model.held_out.*row.share) : "–");
    rows += Cell(RangeOverLayers(figures, row.share)) + "</tr>\n";
  }
  return "<table class=\"shares\"><caption>Share of neurons that make so much of the "
         "activations</caption>\n<thead><tr>"
         "<th scope=\"col\">activations</th><th scope=\"col\" class=\"number\">whole model</th>"
         "<th scope=\"col\" class=\"number\">held-out text</th><th scope=\"col\" class=\"number\">single "
         "layers</th>"
         "</tr></thead>\n<tbody>\n" +
         rows + "</tbody></table>\n";
}

std::string Summary(const ReportFigures& figures) {
  const LayerFigures& model = figures.model;
  if (!model.active()) return "";
  return fmt::format(
      "<p>{} of all pairs of token and neuron are silent; {} neurons were never active. The Gini coefficient "
      "of the "
      "whole model is {}: 0 would be all neurons equal, 1 a single one doing everything.</p>\n",
      FormatShare(model.profiled.sparsity), FormatCount(model.silent_neurons),
      FormatNumber(model.profiled.gini));
}

}  // namespace

std::string RenderConcentration(const ReportFigures& figures) {
  return Section(
      "concentration", "How few neurons do most of the work",
      "The faster a curve rises, the fewer neurons have to be hot. The dashed diagonal is a layer whose "
      "neurons are all equally frequent.",
      "<div class=\"split\">\n<figure>" + Chart(figures) + "</figure>\n<div>" + ShareTable(figures) +
          Summary(figures) + "</div>\n</div>\n");
}

}  // namespace thermocline
