// The whole page: sections, figures, escaping, size, and inputs with little in them.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <string_view>

#include "report_fixture.h"

namespace thermocline {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Numbers that are none, as C++ and JavaScript write them.
constexpr char kNonsense[] = "[^a-zA-Z](nan|NaN|inf|Infinity|undefined)[^a-zA-Z]";

std::string Render(const ReportSample& sample) { return RenderReport(sample.input()); }

// Without style sheet and script, whose text is not the reader's.
std::string Markup(const std::string& page) {
  return page.substr(page.find("</style>"), page.rfind("<script>") - page.find("</style>"));
}

// The content of the element with that id, up to its end tag.
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

TEST(RenderReport, HasEverySection) {
  const std::string page = Render(SkewedSample(12, 256));
  for (const char* id : {"headline",
                         "frequencies",
                         "concentration",
                         "skewness",
                         "coverage",
                         "memory",
                         "sweep",
                         "alternatives",
                         "hardware",
                         "layers",
                         "heat-map",
                         "concentration-chart",
                         "sparsity-chart",
                         "share-chart",
                         "gini-chart",
                         "third-moment-chart",
                         "coverage-chart",
                         "memory-chart",
                         "sweep-speed-chart",
                         "sweep-coverage-chart"}) {
    EXPECT_EQ(Count(page, fmt::format(" id=\"{}\"", id)), 1) << id;
  }
}

TEST(RenderReport, HeadlineShowsThePlansFigures) {
  ReportSample sample = SkewedSample(12, 256);
  sample.model_name = "opt-30b.gguf";
  sample.plan.prediction = {.tokens_per_second = 14.23,
                            .binding = "synchronisation",
                            .gap = 0.0081,
                            .coverage = 0.8123,
                            .held_out_coverage = 0.7946};
  sample.plan.devices[1].budget_bytes = int64_t{2} << 30;
  const std::string page = Render(sample);
  EXPECT_THAT(page, HasSubstr("<title>opt-30b.gguf · Thermocline</title>"));
  EXPECT_THAT(page, HasSubstr("<h1>opt-30b.gguf</h1>"));
  EXPECT_THAT(page, HasSubstr(sample.profile.model_sha256));
  EXPECT_THAT(page, HasSubstr(">900,000<"));
  EXPECT_THAT(page, HasSubstr(">100,000<"));
  EXPECT_THAT(Element(page, "figure-speed", "div"), HasSubstr(">14.2 tokens/s<"));
  EXPECT_THAT(Element(page, "figure-coverage", "div"), HasSubstr(">79.5\u00a0%<"));
  EXPECT_THAT(Element(page, "figure-coverage", "div"), HasSubstr(">81.2\u00a0% on the profiled text<"));
  EXPECT_THAT(Element(page, "figure-hot", "div"), HasSubstr(">614<"));
  EXPECT_THAT(Element(page, "figure-hot", "div"), HasSubstr("of 3,072<"));
  EXPECT_THAT(Element(page, "figure-memory", "div"), HasSubstr("of 2\u00a0GiB<"));
  EXPECT_THAT(Element(page, "figure-binding", "div"), HasSubstr(">synchronisation<"));
  EXPECT_THAT(Element(page, "figure-gap", "div"), HasSubstr(">0.8\u00a0%<"));
}

TEST(RenderReport, SaysWhenWholeLayersWerePlacedAndWhenANeuronIsActive) {
  ReportSample sample = SkewedSample(2, 16);
  EXPECT_THAT(Render(sample), Not(HasSubstr("id=\"by-layer\"")));
  EXPECT_THAT(Render(sample), HasSubstr("a neuron is active when its activation is not zero<"));
  sample.plan.prediction.by_layer = "planned by layer: 1 < 1.05";
  sample.profile.activation = "silu";
  EXPECT_THAT(Element(Render(sample), "by-layer", "p"), HasSubstr("Planned by layer: 1 &lt; 1.05."));
  EXPECT_THAT(Render(sample), HasSubstr("which for silu is always"));
  sample.profile.threshold = 0.25;
  EXPECT_THAT(Render(sample), HasSubstr("the magnitude of its activation is above 0.25<"));
  sample.profile = SkewedSample(2, 16).profile;
  sample.profile.activation = "drelu";
  EXPECT_THAT(Render(sample), HasSubstr("its gate fires"));
}

TEST(RenderReport, MemoryTableShowsEveryTenant) {
  ReportSample sample = SkewedSample(2, 16);
  PlanDevice& gpu = sample.plan.devices[1];
  gpu = {.name = "cuda:3",
         .kind = DeviceKind::kCuda,
         .budget_bytes = int64_t{5000} << 20,
         .attention_bytes = 11 << 20,
         .kv_cache_bytes = 13 << 20,
         .predictor_bytes = 17 << 20,
         .head_bytes = 19 << 20,
         .scratch_bytes = 23 << 20,
         .neuron_bytes = 29 << 20};
  const std::string memory = Element(Render(sample), "memory", "section");
  for (const int mebibytes : {11, 13, 17, 19, 23, 29, 11 + 13 + 17 + 19 + 23 + 29}) {
    EXPECT_THAT(memory, HasSubstr(fmt::format(">{}\u00a0MiB</td>", mebibytes)));
  }
  EXPECT_THAT(memory, HasSubstr("cuda:3 (GPU): 112\u00a0MiB of 4.88\u00a0GiB"));
  EXPECT_THAT(memory, HasSubstr("free 4.77\u00a0GiB"));
}

TEST(RenderReport, HardwareTableShowsMedianAndSpread) {
  const std::string hardware = Element(Render(SkewedSample(2, 16)), "hardware", "section");
  EXPECT_THAT(
      hardware,
      HasSubstr("<th scope=\"row\">memory read, 16 threads</th><td class=\"number strong\">47 GB/s</td>"
                "<td class=\"number\">46.8 to 47.2</td><td class=\"number\">3</td>"));
  EXPECT_THAT(
      hardware,
      HasSubstr("<th scope=\"row\">synchronisation of a layer</th><td class=\"number strong\">20 µs</td>"
                "<td class=\"number\">17.9 to 31.5</td>"));
  EXPECT_THAT(hardware, Not(HasSubstr("emulated")));
}

TEST(RenderReport, EmulatedTimingsAreLabelled) {
  const std::string page = Render(DemoSample());
  EXPECT_THAT(Element(page, "hardware", "section"), HasSubstr("emulated: measured on the CPU"));
  EXPECT_THAT(Element(page, "figure-speed", "div"), HasSubstr("on an emulated accelerator"));
  EXPECT_THAT(page, HasSubstr("<p class=\"badge\">Emulated accelerator"));
}

TEST(RenderReport, LayerTableHasARowEachInOrder) {
  const std::string layers = Element(Render(SkewedSample(12, 64)), "layers", "section");
  EXPECT_EQ(Count(layers, "<tr data-layer="), 12);
  EXPECT_LT(layers.find("data-layer=\"2\""), layers.find("data-layer=\"10\""));
}

TEST(RenderReport, AlternativesAreScaledToTheFastest) {
  ReportSample sample = SkewedSample(2, 16);
  sample.plan.prediction.tokens_per_second = 40;
  sample.plan.alternatives = {{"global top-k", 7, {.tokens_per_second = 30, .held_out_coverage = 0.614}},
                              {"first n layers", 5, {.tokens_per_second = 10}}};
  const std::string table = Element(Render(sample), "alternatives", "section");
  EXPECT_THAT(table, HasSubstr("width:100.0%"));
  EXPECT_THAT(table, HasSubstr("width:75.0%"));
  EXPECT_THAT(table, HasSubstr("width:25.0%"));
  EXPECT_THAT(table, HasSubstr(">61.4\u00a0%<"));
}

TEST(RenderReport, SweepIsLeftOutWithoutPoints) {
  ReportSample sample = SkewedSample(2, 16);
  sample.sweep.clear();
  EXPECT_THAT(Render(sample), Not(HasSubstr("id=\"sweep\"")));
}

TEST(RenderReport, SweepMarksEveryPointAndTheChosenBudget) {
  ReportSample sample = SkewedSample(2, 16);
  sample.sweep = {{int64_t{4} << 30, 20, 0.9, 10}, {int64_t{1} << 30, 5, 0.5, 3}};
  sample.plan.devices[1].budget_bytes = int64_t{3} << 30;
  sample.plan.prediction.tokens_per_second = 17.3;
  const std::string chart = Element(Render(sample), "sweep-speed-chart", "svg");
  EXPECT_THAT(chart, HasSubstr("<title>1\u00a0GiB: 5</title>"));
  EXPECT_THAT(chart, HasSubstr("<title>4\u00a0GiB: 20</title>"));
  EXPECT_THAT(chart, HasSubstr("<title>This plan, 3\u00a0GiB: 17.3</title>"));
}

// The border steps at each layer's number of hot neurons, at the scale of the axis.
TEST(RenderReport, BorderFollowsThePlan) {
  ReportSample sample = SkewedSample(2, 4);
  sample.plan.layers[0].units = {{.device = 1, .neurons = {0}}, {.device = 0, .neurons = {1, 2, 3}}};
  sample.plan.layers[1].units = {{.device = 1, .neurons = {0, 1, 2}}, {.device = 0, .neurons = {3}}};
  const std::string map = Element(Render(sample), "heat-map", "svg");
  EXPECT_THAT(map, HasSubstr("d=\"M332.5 64V100H889.5V136\""));  // 54 + 1114 / 4, 54 + 1114 * 3 / 4
}

// Four neurons, active for all, a quarter and none of the tokens: stretches of the row, and what the pointer
// reads.
TEST(RenderReport, HeatMapPaintsFrequencies) {
  ReportSample sample = SkewedSample(1, 4);
  sample.profile.profiled_tokens = 100;
  sample.profile.layers[0].profiled.active = {0, 100, 25, 0};
  const std::string page = Render(sample);
  const std::string map = Element(page, "heat-map", "svg");
  EXPECT_EQ(Count(map, "d=\"M54 82h557\""), 33);    // levels up to the root of a quarter, over half of 1114
  EXPECT_EQ(Count(map, "d=\"M54 82h278.5\""), 31);  // the levels above, over a quarter of it
  EXPECT_THAT(Element(page, "heat-data", "script"), HasSubstr("\"neurons\":4,"));
  EXPECT_THAT(Element(page, "heat-data", "script"), HasSubstr("\"row\":\"__gAAAAA\""));
}

TEST(RenderReport, TextFromFilesIsEscaped) {
  ReportSample sample = SkewedSample(2, 16);
  const std::string hostile = "</script><script>alert('x')</script>\"><img src=x onerror=alert(1)>&\x01\xff";
  sample.model_name = hostile;
  sample.profile.model_sha256 = hostile;
  sample.profile.architecture = hostile;
  sample.profile.activation = hostile;
  sample.profile.corpus.file = hostile;
  sample.plan.prediction.binding = hostile;
  sample.plan.devices[1].name = hostile;
  sample.plan.alternatives = {{hostile, 1, {.tokens_per_second = 1, .binding = hostile}}};
  sample.hardware.cpu = hostile;
  sample.hardware.isa = hostile;
  sample.hardware.accelerators[0].name = hostile;
  const std::string markup = Markup(Render(sample));
  EXPECT_THAT(markup, Not(HasSubstr("<script>")));
  EXPECT_THAT(markup, Not(HasSubstr("<img")));
  EXPECT_THAT(markup, Not(HasSubstr("\x01")));
  EXPECT_THAT(markup, Not(HasSubstr("\xff")));
  EXPECT_GE(Count(markup, "&lt;img src=x onerror=alert(1)&gt;&amp;\uFFFD\uFFFD"), 10);
}

TEST(RenderReport, NeedsNothingFromOutside) {
  const std::string page = Render(SkewedSample(12, 256));
  for (size_t at = page.find("://"); at != std::string::npos; at = page.find("://", at + 1)) {
    EXPECT_EQ(std::string_view(page).substr(at, 14), "://www.w3.org/") << "only the names of namespaces";
  }
  EXPECT_EQ(Count(page, "xmlns="), Count(page, "://"));
  for (const char* reference :
       {"src=", "href=", "url(", "@import", "<link", "<iframe", "fetch(", "XMLHttpRequest"}) {
    EXPECT_THAT(page, Not(HasSubstr(reference)));
  }
}

TEST(RenderReport, IsTheSameForTheSameInput) {
  EXPECT_EQ(Render(SkewedSample(12, 256)), Render(SkewedSample(12, 256)));
}

TEST(RenderReport, StaysSmallForLargeModels) {
  const std::string page = Render(SkewedSample(80, 28672));
  EXPECT_LT(page.size(), 1000u * 1000u);
  EXPECT_GT(page.size(), 100u * 1000u);
}

TEST(RenderReport, LittleInputGivesNoNonsense) {
  for (const ReportSample& sample : {EmptySample(0, 0), EmptySample(1, 0), EmptySample(1, 1),
                                     EmptySample(3, 16), SkewedSample(1, 1), SkewedSample(1, 7)}) {
    EXPECT_THAT(Markup(Render(sample)), Not(ContainsRegex(kNonsense)))
        << sample.profile.layers.size() << " layers of " << sample.profile.d_ff;
  }
}

TEST(RenderReport, FiguresThatAreNotFiniteAreDashes) {
  ReportSample sample = SkewedSample(2, 16);
  const double none = std::numeric_limits<double>::quiet_NaN();
  sample.plan.prediction = {.tokens_per_second = INFINITY,
                            .binding = "memory",
                            .gap = none,
                            .coverage = none,
                            .held_out_coverage = none};
  sample.plan.alternatives = {
      {"global top-k", 1, {.tokens_per_second = none, .held_out_coverage = -INFINITY}}};
  sample.sweep = {{1 << 20, none, none, 0}, {2 << 20, INFINITY, 2, 0}};
  sample.hardware.cpu_read[0].read_gb_per_second.values = {none};
  sample.hardware.cpu_neuron_gb_per_second.values = {};
  const std::string page = Render(sample);
  EXPECT_THAT(Markup(page), Not(ContainsRegex(kNonsense)));
  EXPECT_THAT(Element(page, "figure-speed", "div"), HasSubstr(">– tokens/s<"));
  EXPECT_THAT(Element(page, "figure-gap", "div"), HasSubstr(">–<"));
  EXPECT_THAT(Element(page, "hardware", "section"), HasSubstr("not measured"));
}

// Profile and plan are checked against each other before they come here; a page of nonsense must still not
// crash.
TEST(RenderReport, PlanOfAnotherShapeIsDrawnAsFarAsItGoes) {
  ReportSample sample = SkewedSample(3, 16);
  sample.plan.layers.resize(1);
  sample.plan.layers[0].attention_device = 9;
  sample.plan.layers[0].units[1].neurons.push_back(1u << 31);
  EXPECT_THAT(Render(sample), HasSubstr("id=\"layers\""));
}

}  // namespace
}  // namespace thermocline
