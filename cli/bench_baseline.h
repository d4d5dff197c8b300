// A result of `thermocline bench` beside an earlier one of the same model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/status.h"

namespace thermocline {

// Of the JSON that `bench` writes; another number means that keys changed their meaning.
inline constexpr int kBenchSchema = 1;

// What both results must share for their figures to be compared.
struct BenchWorkload {
  std::string model_sha256;
  int64_t prompt_tokens = 0;
  int64_t decode_tokens = 0;
  std::vector<std::string> plans;  // names; empty: one run with the plan that there is
};

struct ComparedFigure {
  std::string plan;  // empty: the only run
  std::string mode;  // empty: of all modes
  std::string name;  // "decode tokens/s"
  double before = 0;
  double now = 0;
  bool is_speed = false;  // tokens/s, which --fail-below looks at
  double ratio() const { return now / before; }
};

struct BenchComparison {
  std::string file;                               // the baseline's
  std::vector<ComparedFigure> figures;            // those that both have, in the order of the result
  std::vector<std::string> hardware_differences;  // "threads: 4, here 2"; empty: the same hardware
};

// An earlier result, checked for being one of this schema. InvalidArgument naming the file otherwise.
absl::StatusOr<nlohmann::ordered_json> ReadBaseline(const std::string& path);

// InvalidArgument naming the file and the difference unless it is a result of this workload; its plans may be
// more. Cheap: asked before anything is measured.
absl::Status CheckBaseline(const nlohmann::ordered_json& baseline, const std::string& file,
                           const BenchWorkload& workload);

// Both were checked. Figures that are no positive numbers in either are left out.
BenchComparison CompareBench(const nlohmann::ordered_json& baseline, const std::string& file,
                             const nlohmann::ordered_json& result);

// {file, hardware_differences, figures[{plan?, mode?, figure, before, now, ratio}]}
nlohmann::ordered_json ComparisonJson(const BenchComparison& comparison);
void PrintBaseline(const BenchComparison& comparison);

// FailedPrecondition naming the figure that fell most, where a speed is below `least_ratio` of the
// baseline's; also where there is no speed to compare.
absl::Status CheckRatios(const BenchComparison& comparison, double least_ratio);

// The number that a pointer such as "/hardware/threads" leads to; none where that is no finite number.
std::optional<double> NumberAt(const nlohmann::ordered_json& json, const std::string& pointer);
// The text there; empty where it is none.
std::string TextAt(const nlohmann::ordered_json& json, const std::string& pointer);
// The result's runs by plan: of an only run itself, under an empty name.
std::vector<std::pair<std::string, const nlohmann::ordered_json*>> RunsOf(
    const nlohmann::ordered_json& result);

}  // namespace thermocline
