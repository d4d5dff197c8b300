// Text of the report: escaping, and figures as people read them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline {

// Fit for HTML and XML, in text and in quoted attributes. Bytes that are not UTF-8, control and invisible
// formatting characters (which could reorder a line) become U+FFFD.
std::string EscapeHtml(std::string_view text);

// What is not finite is an en dash in all of these. Units follow a no-break space.
std::string FormatCount(int64_t count);               // "12,288"
std::string FormatNumber(double value);               // three significant digits: "14.2", "0.0312", "1,530"
std::string FormatShare(double share);                // 0.173: "17.3 %"
std::string FormatFixed(double value, int decimals);  // for columns: "14.20"
std::string FormatColumnShare(double share);          // for columns, always one decimal: "20.0 %"
std::string FormatBytes(double bytes);                // "7.94 GiB"
std::string FormatCoordinate(double coordinate);      // at most one decimal, "0" when not finite

}  // namespace thermocline
