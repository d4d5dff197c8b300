// The dashboard's markup, style sheet and scripts, dashboard.html and its companions, as the build embeds
// them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace thermocline {

extern const std::string_view kDashboardMarkup;
extern const std::string_view kDashboardStyle;
extern const std::string_view kDashboardMapScript;
extern const std::string_view kDashboardScript;

}  // namespace thermocline
