// Writes the report of a made-up profile, for a look in a browser.
// SPDX-License-Identifier: Apache-2.0
//
// usage: report_sample skewed|large|demo|empty FILE
#include <fmt/format.h>

#include <fstream>
#include <optional>
#include <string_view>

#include "report_fixture.h"

namespace thermocline {
namespace {

std::optional<ReportSample> MakeSample(std::string_view kind) {
  if (kind == "skewed") return SkewedSample(32, 8192);
  if (kind == "large") return SkewedSample(80, 28672);
  if (kind == "demo") return DemoSample();
  if (kind == "empty") return EmptySample(1, 16);
  return std::nullopt;
}

}  // namespace
}  // namespace thermocline

int main(int count, char** arguments) {
  const auto sample = count == 3 ? thermocline::MakeSample(arguments[1]) : std::nullopt;
  if (!sample) {
    fmt::print(stderr, "usage: report_sample skewed|large|demo|empty FILE\n");
    return 2;
  }
  std::ofstream file(arguments[2], std::ios::binary);
  file << thermocline::RenderReport(sample->input());
  file.close();
  if (!file) fmt::print(stderr, "report_sample: {}: cannot be written\n", arguments[2]);
  return file ? 0 : 1;
}
