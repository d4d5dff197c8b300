// The sections of the report, in the order of the page. Each is a piece of HTML, well-formed as XML too.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "profiler/report.h"
#include "profiler/report_figures.h"
#include "profiler/report_page.h"

namespace thermocline {

// report_header.cc
std::string RenderHeader(const ReportInput& input, const ReportFigures& figures);
std::string RenderHeadline(const ReportInput& input, const ReportFigures& figures);
// report_heat_map.cc
std::string RenderHeatMap(const ReportInput& input, const ReportFigures& figures);
// report_concentration.cc
std::string RenderConcentration(const ReportFigures& figures);
// report_layer_charts.cc
std::string RenderSkewness(const ReportFigures& figures);
std::string RenderCoverage(const ReportInput& input, const ReportFigures& figures);
// report_predictors.cc
std::string RenderPredictors(const ReportInput& input, const ReportFigures& figures);  // empty without any
// report_memory.cc
std::string RenderMemory(const ReportInput& input);
// report_comparison.cc
std::string RenderSweep(const ReportInput& input, const ReportFigures& figures);  // empty without points
std::string RenderAlternatives(const ReportInput& input);
// report_tables.cc
std::string RenderHardware(const ReportInput& input);
std::string RenderLayerTable(const ReportInput& input, const ReportFigures& figures);

}  // namespace thermocline
