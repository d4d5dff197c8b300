// Escaping, and figures as people read them.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>

namespace thermocline {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(EscapeHtml, MarkupBecomesText) {
  EXPECT_EQ(EscapeHtml("<b title=\"x\">R&D's</b>"), "&lt;b title=&quot;x&quot;&gt;R&amp;D&#39;s&lt;/b&gt;");
}

TEST(EscapeHtml, LettersOfEveryScriptStay) {
  EXPECT_EQ(EscapeHtml("Modèle 模型 🌊\t\n"), "Modèle 模型 🌊\t\n");
}

TEST(EscapeHtml, WhatXmlForbidsOrReordersALineIsReplaced) {
  EXPECT_EQ(EscapeHtml(std::string_view("a\0b\x1b[31m", 8)), "a\uFFFDb\uFFFD[31m");
  EXPECT_EQ(EscapeHtml("gguf.\u202Eexe"), "gguf.\uFFFDexe");
  EXPECT_EQ(EscapeHtml("\xff\xfe"), "\uFFFD\uFFFD");
  EXPECT_EQ(EscapeHtml("\uFFFE"), "\uFFFD");
}

TEST(FormatCount, ThousandsAreParted) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(-1000), "-1,000");
  EXPECT_EQ(FormatCount(2293760), "2,293,760");
  EXPECT_EQ(FormatCount(INT64_MIN), "-9,223,372,036,854,775,808");
}

TEST(FormatNumber, HasThreeSignificantDigits) {
  EXPECT_EQ(FormatNumber(0), "0");
  EXPECT_EQ(FormatNumber(0.031249), "0.0312");
  EXPECT_EQ(FormatNumber(7.378), "7.38");
  EXPECT_EQ(FormatNumber(9.999), "10");
  EXPECT_EQ(FormatNumber(14.23), "14.2");
  EXPECT_EQ(FormatNumber(999.7), "1,000");
  EXPECT_EQ(FormatNumber(1534.4), "1,534");
  EXPECT_EQ(FormatNumber(1e300), "1.00e+300");
}

TEST(FormatShare, SaysLittleAndNearlyAllAsSuch) {
  EXPECT_EQ(FormatShare(0.173), "17.3\u00a0%");
  EXPECT_EQ(FormatShare(0.8), "80\u00a0%");
  EXPECT_EQ(FormatShare(0), "0\u00a0%");
  EXPECT_EQ(FormatShare(0.0001), "under 0.1\u00a0%");
  EXPECT_EQ(FormatShare(0.99999), "over 99.9\u00a0%");
  EXPECT_EQ(FormatShare(1), "100\u00a0%");
}

TEST(FormatColumnShare, AlwaysHasOneDecimal) {
  EXPECT_EQ(FormatColumnShare(0.8), "80.0\u00a0%");
  EXPECT_EQ(FormatFixed(2, 3), "2.000");
}

TEST(FormatBytes, PicksTheUnit) {
  EXPECT_EQ(FormatBytes(0), "0\u00a0B");
  EXPECT_EQ(FormatBytes(1023), "1,023\u00a0B");
  EXPECT_EQ(FormatBytes(1024), "1\u00a0KiB");
  EXPECT_EQ(FormatBytes(7.94 * 1073741824), "7.94\u00a0GiB");
  EXPECT_EQ(FormatBytes(1024. * 1024 - 1), "1\u00a0MiB");
}

TEST(Formats, WhatIsNotFiniteIsADash) {
  for (const double value : {std::nan(""), kInfinity, -kInfinity}) {
    EXPECT_EQ(FormatNumber(value), "–");
    EXPECT_EQ(FormatShare(value), "–");
    EXPECT_EQ(FormatColumnShare(value), "–");
    EXPECT_EQ(FormatFixed(value, 1), "–");
    EXPECT_EQ(FormatBytes(value), "–");
    EXPECT_EQ(FormatCoordinate(value), "0");
  }
}

TEST(FormatCoordinate, IsShort) {
  EXPECT_EQ(FormatCoordinate(12.04), "12");
  EXPECT_EQ(FormatCoordinate(-0.04), "0");
  EXPECT_EQ(FormatCoordinate(100), "100");
  EXPECT_EQ(FormatCoordinate(3.25001), "3.3");
}

}  // namespace
}  // namespace thermocline
