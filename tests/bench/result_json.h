// What every result file under tests/bench/results says alike: samples and the build.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/samples.h"
#include "core/status.h"

namespace thermocline::bench {

// {median, min, max, samples}
nlohmann::ordered_json ToJson(const Samples& samples);

// {version, compiler, type, flags}
nlohmann::ordered_json BuildJson();

// Writes the file anew. FailedPrecondition, naming it, when that fails.
absl::Status WriteJson(const std::string& path, const nlohmann::ordered_json& json);

}  // namespace thermocline::bench
