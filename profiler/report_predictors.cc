// The section on predictors: how well they mark, what they weigh, and what reading with them costs.
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

// What a layer's predictor weighs, and what a token reads of the layer's feed-forward block.
struct Cost {
  double size_bytes = 0;
  double balanced_bytes = 0;
  double fast_bytes = 0;
  double exact_bytes = 0;  // every gate row, and the up and down rows of what fired
};

// A share of what exact mode reads; not a number where that is nothing.
double OfExact(double bytes, const Cost& cost) {
  return cost.exact_bytes > 0 ? bytes / cost.exact_bytes : std::numeric_limits<double>::quiet_NaN();
}

Cost CostOf(const ReportInput& input, const ReportFigures& figures, size_t layer) {
  const PredictorSet& predictors = *input.predictors;
  const LayerPredictor& predictor = predictors.layers[layer];
  const int64_t d_ff = predictors.model.d_ff;
  const int64_t size = predictor.SizeBytes(predictors.model.d_model, d_ff);
  const LayerFigures& layer_figures = figures.layers[layer];
  const double active = 1 - (figures.has_held_out ? layer_figures.held_out : layer_figures.profiled).sparsity;
  return {
      .size_bytes = static_cast<double>(size),
      .balanced_bytes = PredictedCost(predictor.balanced, size, d_ff, input.neuron_bytes),
      .fast_bytes = PredictedCost(predictor.fast, size, d_ff, input.neuron_bytes),
      .exact_bytes = static_cast<double>(d_ff) * (static_cast<double>(input.neuron_bytes.gate) +
                                                  active * static_cast<double>(input.neuron_bytes.up_down))};
}

Cost Sum(const std::vector<Cost>& costs) {
  Cost sum;
  for (const Cost& cost : costs) {
    sum.size_bytes += cost.size_bytes;
    sum.balanced_bytes += cost.balanced_bytes;
    sum.fast_bytes += cost.fast_bytes;
    sum.exact_bytes += cost.exact_bytes;
  }
  return sum;
}

LayerChart Chart(std::string_view id, std::string_view title, std::string_view description) {
  return {.id = std::string(id),
          .title = std::string(title),
          .description = std::string(description),
          .bar_class = "bar-predictor",
          .dots_are = "at quality fast",
          .format = FormatShare};
}

std::string RecallChart(const PredictorSet& predictors) {
  LayerChart chart =
      Chart("predictor-recall-chart", "Recall", "Share of each layer's active neurons that are marked.");
  for (const LayerPredictor& layer : predictors.layers) {
    chart.bars.push_back(layer.balanced.recall);
    chart.dots.push_back(layer.fast.recall);
  }
  chart.line = predictors.target_recall;
  chart.line_is = "target";
  return DrawLayerChart(chart);
}

std::string PrecisionChart(const PredictorSet& predictors) {
  LayerChart chart = Chart("predictor-precision-chart", "Precision",
                           "Share of each layer's marked neurons that are active.");
  for (const LayerPredictor& layer : predictors.layers) {
    chart.bars.push_back(layer.balanced.precision);
    chart.dots.push_back(layer.fast.precision);
  }
  return DrawLayerChart(chart);
}

// Round numbers of KiB, MiB or GiB from 0 to at least `greatest` bytes.
std::vector<double> ByteTicks(double greatest) {
  double unit = 1;
  while (greatest / unit >= 1024) unit *= 1024;
  std::vector<double> ticks = RoundTicks(greatest / unit, 4);
  for (double& tick : ticks) tick *= unit;
  return ticks;
}

std::string SizeChart(const ReportInput& input, const std::vector<Cost>& costs) {
  LayerChart chart =
      Chart("predictor-size-chart", "Size",
            "Bytes of each layer's predictor; the line is the limit of all predictors, shared out evenly.");
  chart.format = FormatBytes;
  double greatest = 0;
  for (const Cost& cost : costs) {
    chart.bars.push_back(cost.size_bytes);
    greatest = std::max(greatest, cost.size_bytes);
  }
  if (input.predictor_limit_bytes > 0 && !costs.empty()) {
    chart.line = static_cast<double>(input.predictor_limit_bytes) / static_cast<double>(costs.size());
    chart.line_is = "limit, shared evenly";
    greatest = std::max(greatest, chart.line);
  }
  chart.values = ByteTicks(greatest);
  return DrawLayerChart(chart);
}

std::string CostChart(const std::vector<Cost>& costs) {
  LayerChart chart = Chart("predictor-cost-chart", "Bytes read, of exact mode's",
                           "What a token reads of each layer's predictor and neurons, as a share of what it "
                           "reads without a predictor.");
  double greatest = 1;
  for (const Cost& cost : costs) {
    chart.bars.push_back(OfExact(cost.balanced_bytes, cost));
    chart.dots.push_back(OfExact(cost.fast_bytes, cost));
    if (std::isfinite(chart.bars.back())) greatest = std::max(greatest, chart.bars.back());
  }
  const Cost sum = Sum(costs);
  chart.line = OfExact(sum.balanced_bytes, sum);
  chart.values = RoundTicks(greatest, 4);
  return DrawLayerChart(chart);
}

std::string Row(const LayerPredictor& predictor, const Cost& cost, size_t layer) {
  std::string row = fmt::format("<tr data-layer=\"{0}\"><th scope=\"row\" class=\"number\">{0}</th>", layer);
  row += Cell(NameOf(predictor.kind), "") + Cell(predictor.hidden > 0 ? FormatCount(predictor.hidden) : "–");
  row += Cell(FormatBytes(cost.size_bytes));
  for (const PredictorFigures& figures : {predictor.balanced, predictor.fast}) {
    row += Cell(FormatColumnShare(figures.recall)) + Cell(FormatColumnShare(figures.precision)) +
           Cell(FormatColumnShare(figures.marked));
  }
  row += Cell(FormatBytes(cost.balanced_bytes)) + Cell(FormatBytes(cost.fast_bytes));
  return row + Cell(FormatBytes(cost.exact_bytes)) + "</tr>\n";
}

std::string Table(const PredictorSet& predictors, const std::vector<Cost>& costs) {
  std::string rows;
  for (size_t layer = 0; layer < costs.size(); ++layer)
    rows += Row(predictors.layers[layer], costs[layer], layer);
  return "<div class=\"scroll\"><table class=\"dense\"><caption>Every predictor; balanced and fast are the "
         "qualities that a request may ask for, read is per token</caption>\n<thead><tr>"
         "<th scope=\"col\" class=\"number\">layer</th><th scope=\"col\">kind</th>"
         "<th scope=\"col\" class=\"number\">hidden</th><th scope=\"col\" class=\"number\">size</th>"
         "<th scope=\"col\" class=\"number\">recall</th><th scope=\"col\" class=\"number\">precision</th>"
         "<th scope=\"col\" class=\"number\">marked</th><th scope=\"col\" class=\"number\">fast recall</th>"
         "<th scope=\"col\" class=\"number\">fast precision</th>"
         "<th scope=\"col\" class=\"number\">fast marked</th><th scope=\"col\" class=\"number\">read</th>"
         "<th scope=\"col\" class=\"number\">read, fast</th>"
         "<th scope=\"col\" class=\"number\">read, exact</th></tr></thead>\n<tbody>\n" +
         rows + "</tbody></table></div>\n";
}

std::string Summary(const ReportInput& input, const Cost& sum) {
  std::string text = fmt::format("All predictors weigh {}", FormatBytes(sum.size_bytes));
  if (input.predictor_limit_bytes > 0) {
    const auto limit = static_cast<double>(input.predictor_limit_bytes);
    text +=
        fmt::format(" of the {} that they may ({})", FormatBytes(limit), FormatShare(sum.size_bytes / limit));
  }
  text += fmt::format(
      ". With them a token reads {} of the feed-forward bytes that exact mode reads, at quality fast {}.",
      FormatShare(OfExact(sum.balanced_bytes, sum)), FormatShare(OfExact(sum.fast_bytes, sum)));
  return fmt::format("<p id=\"predictor-summary\">{}</p>\n", EscapeHtml(text));
}

}  // namespace

std::string RenderPredictors(const ReportInput& input, const ReportFigures& figures) {
  if (input.predictors == nullptr || input.predictors->layers.size() != figures.layers.size()) return "";
  std::vector<Cost> costs;
  for (size_t layer = 0; layer < figures.layers.size(); ++layer)
    costs.push_back(CostOf(input, figures, layer));
  const std::string legend =
      "<p class=\"legend\"><span class=\"key bar-predictor\"></span>quality balanced<span class=\"key "
      "held-out-key\"></span>quality fast<span class=\"key model-key\"></span>target, limit or whole "
      "model</p>\n";
  return Section("predictors", "Predictors of active neurons",
                 "From a block's input a predictor marks the neurons that a token may need; the others are "
                 "not read. Recall is the share of active neurons that it marks, precision the share of "
                 "marked neurons that are active, both on held-out tokens.",
                 Summary(input, Sum(costs)) + legend + "<div class=\"multiples\">\n" +
                     RecallChart(*input.predictors) + PrecisionChart(*input.predictors) +
                     SizeChart(input, costs) + CostChart(costs) + "</div>\n" +
                     Table(*input.predictors, costs));
}

}  // namespace thermocline
