// Samples, build and file of a result.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/result_json.h"

#include <fstream>

namespace thermocline::bench {

nlohmann::ordered_json ToJson(const Samples& samples) {
  return {{"median", samples.median()},
          {"min", samples.min()},
          {"max", samples.max()},
          {"samples", samples.values}};
}

nlohmann::ordered_json BuildJson() {
  return {{"version", THERMOCLINE_VERSION},
          {"compiler", THERMOCLINE_BENCH_COMPILER},
          {"type", THERMOCLINE_BENCH_BUILD_TYPE},
          {"flags", THERMOCLINE_BENCH_FLAGS}};
}

absl::Status WriteJson(const std::string& path, const nlohmann::ordered_json& json) {
  std::ofstream file(path);
  file << json.dump(1) << '\n';
  file.close();
  return file ? absl::OkStatus() : FailedPrecondition("{}: cannot be written", path);
}

}  // namespace thermocline::bench
