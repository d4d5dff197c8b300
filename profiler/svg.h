// Svg: a drawing as text, with the scales and axes that charts need.
// SPDX-License-Identifier: Apache-2.0
//
// Colours and line widths come from the page's style sheet through classes, so that one drawing serves light
// and dark pages. Coordinates are in the drawing's own units (viewBox); the page scales it.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

struct Point {
  double x = 0;
  double y = 0;
};

// What a shape looks like and says. Texts are escaped by the drawing.
struct Mark {
  std::string css_class;
  std::string tip = {};    // shown on hover and read aloud
  int layer = -1;          // shapes of one layer light up together
  std::string style = {};  // inline CSS
};

// From values to coordinates, linearly; a domain without extent maps to the range's start.
struct LinearScale {
  double from = 0;
  double to = 1;
  double start = 0;
  double end = 1;
  double operator()(double value) const;
};

struct Tick {
  double value = 0;
  std::string label;
};

// At most about `count` round values from 0 to at least `greatest`; {0, 1} unless `greatest` is positive.
std::vector<double> RoundTicks(double greatest, int count);

// The part of a drawing inside its axes.
struct PlotArea {
  double left = 0;
  double top = 0;
  double right = 0;
  double bottom = 0;
};

class Svg {
 public:
  // `id` is unique in the page. Title and description are for those who do not see the drawing.
  Svg(std::string_view id, double width, double height, std::string_view title, std::string_view description);

  void Line(Point from, Point to, const Mark& mark);
  void Rect(Point corner, double width, double height, const Mark& mark);
  void Circle(Point centre, double radius, const Mark& mark);
  void Path(std::string_view data, const Mark& mark);
  void Text(Point anchor, std::string_view text, std::string_view css_class);

  // Axes with ticks; the vertical one with lines across the area.
  void HorizontalAxis(const PlotArea& area, const LinearScale& scale, std::span<const Tick> ticks,
                      std::string_view label);
  void VerticalAxis(const PlotArea& area, const LinearScale& scale, std::span<const Tick> ticks,
                    std::string_view label);

  std::string Finish() &&;

 private:
  void Shape(std::string_view name, std::string_view geometry, const Mark& mark);

  std::string text_;
};

// Path data through the points; empty for none.
std::string PolylineData(std::span<const Point> points);

}  // namespace thermocline
