// The report's section on predictors: figures, costs worked out by hand, and input with little in it.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "profiler/report.h"
#include "report_fixture.h"

namespace thermocline {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

// Two layers of 100 neurons; 1,000 bytes to a gate row, 3,000 to up and down; on held-out text every tenth
// neuron is active.
struct Sample {
  Sample() {
    report = SkewedSample(2, 100);
    report.profile.held_out_tokens = 10;
    for (LayerActivations& layer : report.profile.layers) layer.held_out.active.assign(100, 1);
    predictors.model = {.sha256 = report.profile.model_sha256, .n_layers = 2, .d_model = 4096, .d_ff = 100};
    predictors.target_recall = 0.95;
    predictors.fast_recall = 0.9;
    predictors.layers = {{.kind = PredictorKind::kSign,
                          .balanced = {.recall = 0.961, .precision = 0.5, .marked = 0.2},
                          .fast = {.recall = 0.902, .precision = 0.6, .marked = 0.15}},
                         {.kind = PredictorKind::kMlp,
                          .balanced = {.recall = 0.973, .precision = 0.25, .marked = 0.4},
                          .fast = {.recall = 0.914, .precision = 0.3, .marked = 0.3},
                          .hidden = 64}};
  }
  ReportInput input() const {
    ReportInput input = report.input();
    input.predictors = &predictors;
    input.predictor_limit_bytes = 1 << 20;
    input.neuron_bytes = {.gate = 1000, .up_down = 3000};
    return input;
  }
  std::string Section() const {
    const std::string page = RenderReport(input());
    const size_t begin = page.find("<section id=\"predictors\"");
    return begin == std::string::npos ? "" : page.substr(begin, page.find("</section>", begin) - begin);
  }

  ReportSample report;
  PredictorSet predictors;
};

TEST(RenderPredictors, ShowsEveryChartOnce) {
  const std::string page = RenderReport(Sample().input());
  for (const char* id : {"predictors", "predictor-summary", "predictor-recall-chart",
                         "predictor-precision-chart", "predictor-size-chart", "predictor-cost-chart"}) {
    const std::string mark = fmt::format(" id=\"{}\"", id);
    const size_t at = page.find(mark);
    EXPECT_NE(at, std::string::npos) << id;
    EXPECT_EQ(page.find(mark, at + 1), std::string::npos) << id;
  }
}

TEST(RenderPredictors, TableHasTheFiguresOfBothQualities) {
  const std::string section = Sample().Section();
  EXPECT_THAT(section, HasSubstr("<tr data-layer=\"0\"><th scope=\"row\" class=\"number\">0</th><td "
                                 "class=\"\">sign</td><td class=\"number\">–</td>"));
  EXPECT_THAT(section, HasSubstr("<td class=\"\">mlp</td><td class=\"number\">64</td>"));
  for (const char* share : {"96.1", "50.0", "20.0", "90.2", "60.0", "15.0", "97.3", "91.4"})
    EXPECT_THAT(section, HasSubstr(fmt::format(">{}\u00a0%</td>", share)));
  EXPECT_THAT(section, HasSubstr(">50\u00a0KiB</td>"));  // 100 neurons of 4096 sign bits
}

// Layer 0: 51,200 bytes of signs, 20 gate rows and 10 of up and down: 101,200 of the 130,000 that exact mode
// reads, 100 gate rows and 10 of up and down.
TEST(RenderPredictors, CostIsWhatATokenReads) {
  const std::string section = Sample().Section();
  EXPECT_THAT(section, HasSubstr("Layer 0: 77.8\u00a0%, at quality fast"));
  EXPECT_THAT(section, HasSubstr(">98.8\u00a0KiB</td>"));  // 101,200 bytes
  EXPECT_THAT(section, HasSubstr(">127\u00a0KiB</td>"));   // 130,000 bytes
}

TEST(RenderPredictors, LimitAndTargetAreDrawn) {
  const std::string section = Sample().Section();
  EXPECT_THAT(section, HasSubstr("target 95\u00a0%"));
  EXPECT_THAT(section, HasSubstr("limit, shared evenly 512\u00a0KiB"));
  EXPECT_THAT(section, HasSubstr("of the 1\u00a0MiB that they may"));
}

TEST(RenderPredictors, WithoutPredictorsThereIsNoSection) {
  Sample sample;
  EXPECT_THAT(RenderReport(sample.report.input()), Not(HasSubstr("id=\"predictors\"")));
  sample.predictors.layers.pop_back();  // of another shape: checked before it comes here, must not crash
  EXPECT_EQ(sample.Section(), "");
}

TEST(RenderPredictors, LittleInputGivesNoNonsense) {
  Sample sample;
  for (LayerPredictor& layer : sample.predictors.layers) layer.balanced = layer.fast = {};
  ReportInput input = sample.input();
  input.neuron_bytes = {};
  input.predictor_limit_bytes = 0;
  std::string page = RenderReport(input);
  page = page.substr(page.find("<section id=\"predictors\""));
  page.resize(page.find("</section>"));
  EXPECT_THAT(page, Not(ContainsRegex("[^a-zA-Z](nan|NaN|inf|Infinity)[^a-zA-Z]")));
}

}  // namespace
}  // namespace thermocline
