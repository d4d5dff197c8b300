// The ladder's result: goals, and tables for people.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

namespace thermocline::ladder {

// Of the problems that were timed: [{goal, least, problem, met}], least and met null where nothing was
// measured.
nlohmann::ordered_json Goals(const nlohmann::ordered_json& problems);

void PrintProblem(const nlohmann::ordered_json& problem);
void PrintGoals(const nlohmann::ordered_json& goals);

}  // namespace thermocline::ladder
