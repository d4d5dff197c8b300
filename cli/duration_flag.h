// Durations on the command line: "500ms", "30s", "2m".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <string>

namespace thermocline {

// Turns a flag's value into a whole number of milliseconds. A number without its unit is refused.
inline CLI::AsNumberWithUnit InMilliseconds() {
  using Conversion = CLI::AsNumberWithUnit;
  const std::map<std::string, int64_t> units = {{"ms", 1}, {"s", 1'000}, {"m", 60'000}, {"h", 3'600'000}};
  return Conversion(units,
                    static_cast<Conversion::Options>(Conversion::CASE_SENSITIVE | Conversion::UNIT_REQUIRED),
                    "DURATION");
}

}  // namespace thermocline
