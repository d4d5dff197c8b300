// What other budgets and simpler plans would give.
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

constexpr PlotArea kArea = {58, 34, 588, 244};

struct SweepChart {
  std::string_view id;
  std::string_view title;
  std::string_view description;
  std::string_view line_class;
  std::vector<Point> points;  // budget in bytes, value
  Point chosen;               // not finite when there is none
  std::string (*format)(double);
  double greatest = 1;  // of the vertical axis
};

// Round numbers of the unit in which the greatest budget is read.
std::vector<Tick> ByteTicks(double greatest) {
  double unit = 1;
  while (greatest / unit >= 1024 && unit < std::exp2(50)) unit *= 1024;
  std::vector<Tick> ticks;
  for (const double value : RoundTicks(greatest / unit, 6))
    ticks.push_back({value * unit, FormatBytes(value * unit)});
  return ticks;
}

double GreatestBudget(const SweepChart& chart) {
  double greatest = std::isfinite(chart.chosen.x) ? chart.chosen.x : 0;
  for (const Point& point : chart.points) greatest = std::max(greatest, point.x);
  return greatest;
}

bool Finite(const Point& point) { return std::isfinite(point.x) && std::isfinite(point.y); }

std::string Draw(const SweepChart& chart) {
  const std::vector<Tick> budgets = ByteTicks(GreatestBudget(chart));
  const LinearScale x = {0, budgets.back().value, kArea.left, kArea.right};
  const LinearScale y = {0, chart.greatest, kArea.bottom, kArea.top};
  Svg svg(chart.id, 620, 296, chart.title, chart.description);
  std::vector<Tick> values;
  for (const double value : RoundTicks(chart.greatest, 5)) {
    if (value <= chart.greatest * 1.0001) values.push_back({value, chart.format(value)});
  }
  svg.VerticalAxis(kArea, y, values, chart.title);
  svg.HorizontalAxis(kArea, x, budgets, "accelerator memory");

  std::vector<Point> line;
  for (const Point& point : chart.points) {
    if (Finite(point)) line.push_back({x(point.x), y(point.y)});
  }
  svg.Path(PolylineData(line), {std::string(chart.line_class)});
  for (const Point& point : chart.points) {
    if (!Finite(point)) continue;
    svg.Circle({x(point.x), y(point.y)}, 3.5,
               {"point", fmt::format("{}: {}", FormatBytes(point.x), chart.format(point.y))});
  }
  if (Finite(chart.chosen)) {
    const Point at = {x(chart.chosen.x), y(chart.chosen.y)};
    svg.Line({at.x, kArea.top}, {at.x, kArea.bottom}, {"mark"});
    svg.Circle(at, 6,
               {"mark-dot",
                fmt::format("This plan, {}: {}", FormatBytes(chart.chosen.x), chart.format(chart.chosen.y))});
    const bool right = at.x < std::lerp(kArea.left, kArea.right, 0.62);
    svg.Text({at.x + (right ? 10 : -10), kArea.bottom - 12}, "this plan: " + chart.format(chart.chosen.y),
             right ? "note-label" : "note-label end");
  }
  return "<figure>" + std::move(svg).Finish() + "</figure>\n";
}

std::string Speed(double tokens_per_second) { return FormatNumber(tokens_per_second); }

Point ChosenPoint(const ReportInput& input, const ReportFigures& figures, double value) {
  if (!figures.has_accelerator) return {NAN, NAN};
  return {static_cast<double>(input.plan->accelerator_budget()), value};
}

std::vector<SweepPoint> ByBudget(std::vector<SweepPoint> sweep) {
  std::ranges::stable_sort(sweep, {}, &SweepPoint::budget_bytes);
  return sweep;
}

struct ComparedPlan {
  std::string name;
  int64_t hot_neurons = 0;
  const PlanPrediction* prediction = nullptr;
};

std::string ComparedRow(const ComparedPlan& plan, double fastest, bool chosen) {
  const double speed = plan.prediction->tokens_per_second;
  const double part = fastest > 0 && std::isfinite(speed) ? std::clamp(speed / fastest, 0., 1.) : 0;
  return fmt::format(
      "<tr class=\"{}\"><th scope=\"row\">{}</th>{}<td class=\"bar-cell\"><div class=\"meter\" "
      "style=\"width:{:.1f}%\"></div></td>{}{}{}{}</tr>\n",
      chosen ? "chosen" : "", EscapeHtml(plan.name), Cell(FormatNumber(speed), "number strong"), part * 100,
      Cell(FormatColumnShare(plan.prediction->held_out_coverage)),
      Cell(FormatColumnShare(plan.prediction->coverage)), Cell(FormatCount(plan.hot_neurons)),
      Cell(plan.prediction->binding, ""));
}

}  // namespace

std::string RenderSweep(const ReportInput& input, const ReportFigures& figures) {
  if (input.sweep.empty()) return "";
  const PlanPrediction& prediction = input.plan->prediction;
  SweepChart speed = {.id = "sweep-speed-chart",
                      .title = "Predicted tokens a second",
                      .description = "Predicted decoding speed for each budget.",
                      .line_class = "sweep-line",
                      .points = {},
                      .chosen = ChosenPoint(input, figures, prediction.tokens_per_second),
                      .format = Speed};
  SweepChart coverage = {.id = "sweep-coverage-chart",
                         .title = "Coverage on held-out text",
                         .description = "Coverage for each budget.",
                         .line_class = "sweep-line",
                         .points = {},
                         .chosen = ChosenPoint(input, figures, prediction.held_out_coverage),
                         .format = FormatShare};
  double fastest = prediction.tokens_per_second;
  for (const SweepPoint& point : ByBudget(input.sweep)) {
    const auto budget = static_cast<double>(point.budget_bytes);
    speed.points.push_back({budget, point.tokens_per_second});
    coverage.points.push_back({budget, point.held_out_coverage});
    if (!(fastest >= point.tokens_per_second)) fastest = point.tokens_per_second;
  }
  speed.greatest = RoundTicks(fastest, 5).back();
  const std::string charts = Draw(speed) + (figures.has_held_out ? Draw(coverage) : "");
  return Section("sweep", "What more or less memory would give",
                 "Every point is a plan of its own, solved for that budget.",
                 "<div class=\"multiples\">\n" + charts + "</div>\n");
}

std::string RenderAlternatives(const ReportInput& input) {
  const Plan& plan = *input.plan;
  std::vector<ComparedPlan> plans = {{"this plan", plan.hot_neurons(), &plan.prediction}};
  for (const PlanAlternative& alternative : plan.alternatives) {
    plans.push_back({alternative.name, alternative.hot_neurons, &alternative.prediction});
  }
  double fastest = 0;
  for (const ComparedPlan& compared : plans) {
    if (std::isfinite(compared.prediction->tokens_per_second))
      fastest = std::max(fastest, compared.prediction->tokens_per_second);
  }
  std::string rows;
  for (size_t i = 0; i < plans.size(); ++i) rows += ComparedRow(plans[i], fastest, i == 0);
  return Section(
      "alternatives", "Against simple plans",
      "The same budget, filled without a solver: with the most frequent neurons of the whole model, or with "
      "whole layers from the first on.",
      "<div class=\"scroll\"><table class=\"compared\"><thead><tr><th scope=\"col\">plan</th><th "
      "scope=\"col\" "
      "class=\"number\">tokens/s</th>"
      "<th scope=\"col\" class=\"wide\"><span class=\"unseen\">tokens/s as a bar</span></th><th "
      "scope=\"col\" class=\"number\">held-out coverage</th>"
      "<th scope=\"col\" class=\"number\">coverage</th><th scope=\"col\" class=\"number\">hot neurons</th>"
      "<th scope=\"col\">what binds</th></tr></thead>\n<tbody>\n" +
          rows + "</tbody></table></div>\n");
}

}  // namespace thermocline
