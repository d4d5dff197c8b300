// The report's style sheet and script, report.css and report.js, as the build embeds them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace thermocline {

extern const std::string_view kReportStyle;
extern const std::string_view kReportScript;

}  // namespace thermocline
