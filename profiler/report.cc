// Puts the report's sections on one page.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report.h"

#include "core/status.h"
#include "profiler/report_figures.h"
#include "profiler/report_page.h"
#include "profiler/report_sections.h"

namespace thermocline {
namespace {

constexpr std::string_view kFooter =
    "<footer>\n<p><b>Frequency</b>: share of tokens for which a neuron is active. <b>Hot</b>, <b>cold</b>: "
    "placed on the "
    "accelerator, placed on the CPU. <b>Coverage</b>: share of activations that fall on hot neurons. Speeds "
    "are "
    "predictions of a model that counts bytes read, bandwidths and joins between devices.</p>\n"
    "<p>Made by Thermocline from the files of a profile directory.</p>\n</footer>\n";

}  // namespace

std::string RenderReport(const ReportInput& input) {
  TC_CHECK(input.profile != nullptr && input.plan != nullptr && input.hardware != nullptr);
  const ReportFigures figures = WorkOutFigures(input);
  std::string body;
  body += RenderHeader(input, figures);
  body += RenderHeadline(input, figures);
  body += RenderHeatMap(input, figures);
  body += RenderConcentration(figures);
  body += RenderSkewness(figures);
  body += RenderCoverage(input, figures);
  body += RenderPredictors(input, figures);
  body += RenderMemory(input);
  body += RenderSweep(input, figures);
  body += RenderAlternatives(input);
  body += RenderHardware(input);
  body += RenderLayerTable(input, figures);
  body += kFooter;
  return RenderPage(input.model_name, "", body);
}

}  // namespace thermocline
