// The page of a bench result: sections, bars, escaping, and results with little in them.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_page.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench_sample.h"
#include "cli/bench_baseline.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Without style sheet and script.
std::string Markup(const std::string& page) {
  return page.substr(page.find("</style>"), page.rfind("<script>") - page.find("</style>"));
}

std::string Element(const std::string& page, const std::string& id, const std::string& tag) {
  const size_t begin = page.find(fmt::format("id=\"{}\"", id));
  if (begin == std::string::npos) return "";
  return page.substr(begin, page.find(fmt::format("</{}>", tag), begin) - begin);
}

int Count(const std::string& text, const std::string& part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

// With the baseline's object, as `bench` writes it.
ordered_json Compared(const ordered_json& baseline, ordered_json result) {
  result["baseline"] = ComparisonJson(CompareBench(baseline, "/somewhere/old.json", result));
  return result;
}

TEST(RenderBenchPage, HasEverySectionAndChartOnce) {
  const std::string page = RenderBenchPage(SampleResult(), nullptr);
  for (const char* id :
       {"headline", "decoding", "memory", "times", "crossover", "figures", "decode-chart", "speedup-chart",
        "peak-chart", "bytes-chart", "times-chart", "prefill-chart", "crossover-chart"})
    EXPECT_EQ(Count(page, fmt::format(" id=\"{}\"", id)), 1) << id;
  EXPECT_THAT(page, Not(HasSubstr("id=\"baseline\"")));
  EXPECT_THAT(Markup(page), Not(HasSubstr("bar-before")));
}

TEST(RenderBenchPage, HeadlineIsOfTheFastestMode) {
  const std::string page = RenderBenchPage(SampleResult(), nullptr);
  EXPECT_THAT(page, HasSubstr("<title>relu-7b.gguf · Thermocline</title>"));
  EXPECT_THAT(Element(page, "figure-speed", "div"), HasSubstr(">18 tokens/s<"));
  EXPECT_THAT(Element(page, "figure-speed", "div"), HasSubstr("exact, 17 to 19"));
  EXPECT_THAT(Element(page, "figure-speedup", "div"), HasSubstr(">1.8\u00d7<"));
  EXPECT_THAT(Element(page, "figure-speedup", "div"), HasSubstr("the bytes allow 2\u00d7"));
  EXPECT_THAT(Element(page, "figure-peak", "div"), HasSubstr(">85.5\u00a0%<"));
  EXPECT_THAT(Element(page, "figure-prefill", "div"), HasSubstr("1,600 GFLOP/s"));
  EXPECT_THAT(
      page, HasSubstr("1.8 times dense with the same weights, which is 90\u00a0% of what the bytes allow."));
}

TEST(RenderBenchPage, BarsShowSpreadAndSamples) {
  const std::string chart = Element(RenderBenchPage(SampleResult(), nullptr), "decode-chart", "svg");
  EXPECT_EQ(Count(chart, "class=\"sample\""), 6);
  EXPECT_EQ(Count(chart, "class=\"whisker\""), 2 * 3);
  // Bars start at 128 and end at 540 for 20 tokens/s.
  EXPECT_THAT(chart, HasSubstr("width=\"206\" height=\"24\" class=\"bar-dense\""));
  EXPECT_THAT(chart, HasSubstr("width=\"370.8\" height=\"24\" class=\"bar-exact\""));
  EXPECT_THAT(chart, HasSubstr("<title>exact: 18 (17 to 19)</title>"));
}

TEST(RenderBenchPage, BytesAreThoseOfNeuronsAndTheRest) {
  const std::string chart = Element(RenderBenchPage(SampleResult(), nullptr), "bytes-chart", "svg");
  EXPECT_EQ(Count(chart, "class=\"bar-rest\""), 2);
  EXPECT_THAT(chart, HasSubstr("exact: 668\u00a0MiB of neurons and predictors, 1.12\u00a0GiB of"));
}

TEST(RenderBenchPage, CrossoverIsDrawnWhereItWasMeasured) {
  ordered_json result = SampleResult();
  const std::string page = RenderBenchPage(result, nullptr);
  EXPECT_EQ(Count(Element(page, "crossover-chart", "svg"), "class=\"speedup-point\""), 3);
  EXPECT_THAT(page, HasSubstr("Sparse is faster from 50\u00a0% on."));
  EXPECT_THAT(Element(page, "crossover", "section"), HasSubstr("<th scope=\"row\">99\u00a0%</th>"));
  result.erase("crossover");
  EXPECT_THAT(RenderBenchPage(result, nullptr), Not(HasSubstr("id=\"crossover\"")));
}

TEST(RenderBenchPage, BaselineIsDrawnBeside) {
  ordered_json before = SampleResult();
  before["modes"]["exact"]["decode_tokens_per_second"]["median"] = 12.0;
  before["hardware"]["cpu"] = "Older CPU";
  const std::string page = RenderBenchPage(Compared(before, SampleResult()), &before);
  EXPECT_THAT(Element(page, "decode-chart", "svg"),
              HasSubstr("<title>Baseline, exact: 12 (17 to 19)</title>"));
  EXPECT_EQ(Count(Element(page, "peak-chart", "svg"), "class=\"bar-before\""), 2);
  EXPECT_THAT(Element(page, "crossover-chart", "svg"), HasSubstr("before-line"));
  const std::string table = Element(page, "baseline", "section");
  EXPECT_THAT(table, HasSubstr("old.json, measured on other hardware: cpu: Older CPU, here Some CPU."));
  EXPECT_THAT(table, Not(HasSubstr("/somewhere")));
  EXPECT_THAT(table, HasSubstr("<th scope=\"row\">exact decode tokens/s</th><td class=\"number\">12</td><td "
                               "class=\"number strong\">18</td><td class=\"number better\">1.500</td>"));
}

TEST(RenderBenchPage, PlansHaveABarEach) {
  const ordered_json result = {
      {"schema", 1}, {"plans", {{"layers:4MiB", SampleResult()}, {"latency:4MiB", SampleResult()}}}};
  const std::string page = RenderBenchPage(result, nullptr);
  EXPECT_THAT(Element(page, "decode-chart", "svg"), HasSubstr(">latency:4MiB exact<"));
  EXPECT_EQ(Count(Element(page, "decode-chart", "svg"), "class=\"bar-dense\""), 2);
  EXPECT_EQ(Count(Element(page, "prefill-chart", "svg"), "class=\"bar-prefill\""), 2);
}

TEST(RenderBenchPage, EmulationIsLabelled) {
  ordered_json result = SampleResult();
  result["emulated"] = true;
  EXPECT_THAT(RenderBenchPage(result, nullptr), HasSubstr("<p class=\"badge\">Emulated accelerator"));
}

TEST(RenderBenchPage, TextIsEscapedAndNothingComesFromOutside) {
  const std::string hostile = "</script><script>alert('x')</script>\"><img src=x>\x01";
  ordered_json before = SampleResult();
  for (const char* pointer : {"/hardware/cpu", "/hardware/isa", "/model/file", "/model/type",
                              "/build/revision", "/model/sha256", "/crossover/gate_type"})
    before[ordered_json::json_pointer(pointer)] = hostile;
  before["modes"][hostile] = before["modes"]["exact"];
  const ordered_json result = Compared(before, before);
  const std::string page = RenderBenchPage(result, &before);
  EXPECT_THAT(Markup(page), Not(HasSubstr("<script>")));
  EXPECT_THAT(Markup(page), Not(HasSubstr("<img")));
  EXPECT_GE(Count(Markup(page), "&lt;img src=x&gt;\uFFFD"), 7);
  for (size_t at = page.find("://"); at != std::string::npos; at = page.find("://", at + 1))
    EXPECT_EQ(page.substr(at, 14), "://www.w3.org/");
}

TEST(RenderBenchPage, WhatIsMissingIsLeftOut) {
  const ordered_json result = {{"schema", 1}, {"modes", {{"dense", ordered_json::object()}}}};
  const ordered_json before = {{"schema", 1}, {"modes", {{"dense", 7}}}};
  const std::string page = RenderBenchPage(result, &before);
  EXPECT_THAT(Markup(page), Not(ContainsRegex("[^a-zA-Z](nan|inf)[^a-zA-Z]")));
  EXPECT_THAT(page, HasSubstr("id=\"figures\""));
}

}  // namespace
}  // namespace thermocline
