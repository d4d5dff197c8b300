// Scales, ticks and escaping of drawings.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/svg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <utility>

namespace thermocline {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(LinearScale, MapsEndsAndMiddle) {
  const LinearScale scale = {10, 20, 300, 100};
  EXPECT_DOUBLE_EQ(scale(10), 300);
  EXPECT_DOUBLE_EQ(scale(15), 200);
  EXPECT_DOUBLE_EQ(scale(20), 100);
}

TEST(LinearScale, WithoutExtentIsItsStart) { EXPECT_DOUBLE_EQ((LinearScale{5, 5, 300, 100}(7)), 300); }

TEST(RoundTicks, ReachTheGreatestInRoundSteps) {
  EXPECT_THAT(RoundTicks(9.3, 5), ElementsAre(0, 2, 4, 6, 8, 10));
  EXPECT_THAT(RoundTicks(100, 5), ElementsAre(0, 20, 40, 60, 80, 100));
  EXPECT_THAT(RoundTicks(31, 10), ElementsAre(0, 5, 10, 15, 20, 25, 30, 35));
}

TEST(RoundTicks, AreFewForAnyMagnitude) {
  for (const double greatest : {1e-300, 0.7, 123456789., 1e300}) {
    const std::vector<double> ticks = RoundTicks(greatest, 6);
    EXPECT_LE(ticks.size(), 9u) << greatest;
    EXPECT_GE(ticks.back(), greatest);
  }
}

TEST(RoundTicks, OfNothingAreZeroAndOne) {
  EXPECT_THAT(RoundTicks(0, 5), ElementsAre(0, 1));
  EXPECT_THAT(RoundTicks(-3, 5), ElementsAre(0, 1));
  EXPECT_THAT(RoundTicks(NAN, 5), ElementsAre(0, 1));
  EXPECT_THAT(RoundTicks(INFINITY, 5), ElementsAre(0, 1));
}

TEST(Svg, TextsAreEscaped) {
  Svg svg("x", 10, 10, "<title>", "a & b");
  svg.Text({1, 2}, "</svg>", "tick");
  svg.Circle({1, 2}, 3, {"point", "\"tip\""});
  const std::string text = std::move(svg).Finish();
  EXPECT_THAT(text, HasSubstr("&lt;title&gt;"));
  EXPECT_THAT(text, HasSubstr("a &amp; b"));
  EXPECT_THAT(text, HasSubstr("&lt;/svg&gt;</text>"));
  EXPECT_THAT(text, HasSubstr("<title>&quot;tip&quot;</title>"));
}

TEST(Svg, CoordinatesAreNumbersWhateverComesIn) {
  Svg svg("x", 10, 10, "", "");
  svg.Line({NAN, INFINITY}, {1, 2}, {"grid"});
  const std::string text = std::move(svg).Finish();
  EXPECT_THAT(text, Not(HasSubstr("nan")));
  EXPECT_THAT(text, Not(HasSubstr("inf")));
}

TEST(PolylineData, MovesThenDraws) {
  const std::vector<Point> points = {{1, 2}, {3, 4.5}, {6, 7}};
  EXPECT_EQ(PolylineData(points), "M1 2L3 4.5L6 7");
  EXPECT_EQ(PolylineData({}), "");
}

}  // namespace
}  // namespace thermocline
