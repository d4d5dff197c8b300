// The style of bench_page.css, as the build embeds it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace thermocline {

extern const std::string_view kBenchStyle;

}  // namespace thermocline
