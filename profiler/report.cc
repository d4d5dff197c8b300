// Puts the report's sections on one page, with its style sheet and script inside.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report.h"

#include <fmt/format.h>

#include "core/status.h"
#include "profiler/report_assets.h"
#include "profiler/report_figures.h"
#include "profiler/report_sections.h"
#include "profiler/report_text.h"

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

std::string Section(std::string_view id, std::string_view heading, std::string_view introduction,
                    std::string_view body) {
  return fmt::format(
      "<section id=\"{0}\" aria-labelledby=\"{0}-heading\">\n<h2 id=\"{0}-heading\">{1}</h2>\n<p "
      "class=\"introduction\">{2}</p>\n{3}</section>\n",
      id, EscapeHtml(heading), EscapeHtml(introduction), body);
}

std::string Cell(std::string_view text, std::string_view css_class) {
  return fmt::format("<td class=\"{}\">{}</td>", css_class, EscapeHtml(text));
}

std::string RenderReport(const ReportInput& input) {
  TC_CHECK(input.profile != nullptr && input.plan != nullptr && input.hardware != nullptr);
  const ReportFigures figures = WorkOutFigures(input);
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta "
      "charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{} · "
      "Thermocline</title>\n<style>\n{}</style>\n</head>\n"
      "<body>\n<main>\n",
      EscapeHtml(input.model_name), kReportStyle);
  page += RenderHeader(input, figures);
  page += RenderHeadline(input, figures);
  page += RenderHeatMap(input, figures);
  page += RenderConcentration(figures);
  page += RenderSkewness(figures);
  page += RenderCoverage(input, figures);
  page += RenderPredictors(input, figures);
  page += RenderMemory(input);
  page += RenderSweep(input, figures);
  page += RenderAlternatives(input);
  page += RenderHardware(input);
  page += RenderLayerTable(input, figures);
  page += kFooter;
  page += fmt::format("</main>\n<script>\n{}</script>\n</body>\n</html>\n", kReportScript);
  return page;
}

}  // namespace thermocline
