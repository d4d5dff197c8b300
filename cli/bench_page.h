// The page of a bench result: one HTML file without external assets, in the style of the profile's report.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace thermocline {

// Decoding by mode with its spread, what is read beside the measured peak, speed-up beside what the bytes
// allow, times, the crossover where it was measured, and every figure in tables. result: as `bench` writes
// it; its object `baseline`, where there is one, becomes a table. baseline: an earlier result, drawn beside;
// nullptr: none. Text from files is escaped, and what is missing is left out.
std::string RenderBenchPage(const nlohmann::ordered_json& result, const nlohmann::ordered_json* baseline);

}  // namespace thermocline
