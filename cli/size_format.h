// Sizes for people.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace thermocline {

// "13.3 MiB": the largest unit below the value, one decimal.
std::string FormatBytes(int64_t bytes);

}  // namespace thermocline
