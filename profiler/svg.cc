// Writes SVG elements.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/svg.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "profiler/report_text.h"

namespace thermocline {
namespace {

std::string Attribute(std::string_view name, double value) {
  return fmt::format(" {}=\"{}\"", name, FormatCoordinate(value));
}

}  // namespace

double LinearScale::operator()(double value) const {
  if (!(to != from)) return start;
  return start + (value - from) / (to - from) * (end - start);
}

std::vector<double> RoundTicks(double greatest, int count) {
  if (!std::isfinite(greatest) || greatest <= 0) return {0, 1};
  const double least_step = greatest / count;
  const double power = std::pow(10, std::floor(std::log10(least_step)));
  double step = power * 10;
  for (const double factor : {1., 2., 5.}) {
    if (power * factor >= least_step) {
      step = power * factor;
      break;
    }
  }
  std::vector<double> ticks = {0};
  while (ticks.back() < greatest) ticks.push_back(static_cast<double>(ticks.size()) * step);
  return ticks;
}

Svg::Svg(std::string_view id, double width, double height, std::string_view title,
         std::string_view description) {
  text_ = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" id=\"{0}\" viewBox=\"0 0 {1} {2}\" role=\"img\" "
      "aria-labelledby=\"{0}-title {0}-desc\">\n<title id=\"{0}-title\">{3}</title>\n"
      "<desc id=\"{0}-desc\">{4}</desc>\n",
      EscapeHtml(id), FormatCoordinate(width), FormatCoordinate(height), EscapeHtml(title),
      EscapeHtml(description));
}

void Svg::Shape(std::string_view name, std::string_view geometry, const Mark& mark) {
  text_ += fmt::format("<{}{} class=\"{}\"", name, geometry, EscapeHtml(mark.css_class));
  if (!mark.style.empty()) text_ += fmt::format(" style=\"{}\"", EscapeHtml(mark.style));
  if (mark.layer >= 0) text_ += fmt::format(" data-layer=\"{}\"", mark.layer);
  if (mark.tip.empty()) {
    text_ += "/>\n";
  } else {
    text_ += fmt::format("><title>{}</title></{}>\n", EscapeHtml(mark.tip), name);
  }
}

void Svg::Line(Point from, Point to, const Mark& mark) {
  Shape("line",
        Attribute("x1", from.x) + Attribute("y1", from.y) + Attribute("x2", to.x) + Attribute("y2", to.y),
        mark);
}

void Svg::Rect(Point corner, double width, double height, const Mark& mark) {
  Shape("rect",
        Attribute("x", corner.x) + Attribute("y", corner.y) + Attribute("width", width) +
            Attribute("height", height),
        mark);
}

void Svg::Circle(Point centre, double radius, const Mark& mark) {
  Shape("circle", Attribute("cx", centre.x) + Attribute("cy", centre.y) + Attribute("r", radius), mark);
}

void Svg::Path(std::string_view data, const Mark& mark) {
  Shape("path", fmt::format(" d=\"{}\"", EscapeHtml(data)), mark);
}

void Svg::Text(Point anchor, std::string_view text, std::string_view css_class) {
  text_ += fmt::format("<text{}{} class=\"{}\">{}</text>\n", Attribute("x", anchor.x),
                       Attribute("y", anchor.y), css_class, EscapeHtml(text));
}

void Svg::HorizontalAxis(const PlotArea& area, const LinearScale& scale, std::span<const Tick> ticks,
                         std::string_view label) {
  Line({area.left, area.bottom}, {area.right, area.bottom}, {"axis"});
  for (const Tick& tick : ticks) {
    const double x = scale(tick.value);
    Line({x, area.bottom}, {x, area.bottom + 5}, {"axis"});
    Text({x, area.bottom + 19}, tick.label, "tick middle");
  }
  Text({(area.left + area.right) / 2, area.bottom + 39}, label, "axis-label middle");
}

void Svg::VerticalAxis(const PlotArea& area, const LinearScale& scale, std::span<const Tick> ticks,
                       std::string_view label) {
  for (const Tick& tick : ticks) {
    const double y = scale(tick.value);
    Line({area.left, y}, {area.right, y}, {"grid"});
    Text({area.left - 8, y + 4}, tick.label, "tick end");
  }
  Text({area.left, area.top - 12}, label, "axis-label");
}

std::string Svg::Finish() && {
  text_ += "</svg>\n";
  return std::move(text_);
}

std::string PolylineData(std::span<const Point> points) {
  std::string data;
  for (const Point& point : points) {
    data += fmt::format("{}{} {}", data.empty() ? 'M' : 'L', FormatCoordinate(point.x),
                        FormatCoordinate(point.y));
  }
  return data;
}

}  // namespace thermocline
