// Goals and tables.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/ladder/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace thermocline::ladder {
namespace {

using nlohmann::ordered_json;

double Median(const ordered_json& rung) { return rung["seconds"]["median"].get<double>(); }

// The fastest of the rungs that are ours, or are peers, and whose names begin so; null where there is none.
const ordered_json* Fastest(const ordered_json& problem, bool peer, std::string_view prefix) {
  const ordered_json* fastest = nullptr;
  for (const ordered_json& rung : problem["rungs"]) {
    if (rung["peer"] != peer || !rung["name"].get<std::string>().starts_with(prefix)) continue;
    if (fastest == nullptr || Median(rung) < Median(*fastest)) fastest = &rung;
  }
  return fastest;
}

// How much faster the second is; nothing where either is missing.
std::optional<double> Ratio(const ordered_json* slower, const ordered_json* faster) {
  if (slower == nullptr || faster == nullptr) return std::nullopt;
  return Median(*slower) / Median(*faster);
}

using RatioOf = std::function<std::optional<double>(const ordered_json& problem)>;

ordered_json Goal(const ordered_json& problems, std::string text, std::string_view family, double at_least,
                  const RatioOf& ratio_of) {
  std::optional<double> least;
  std::string where;
  for (const ordered_json& problem : problems) {
    if (problem["family"] != family) continue;
    const std::optional<double> ratio = ratio_of(problem);
    if (!ratio || (least && *least <= *ratio)) continue;
    least = ratio;
    where = problem["problem"].get<std::string>();
  }
  return {{"goal", std::move(text)},
          {"least", least ? ordered_json(*least) : ordered_json(nullptr)},
          {"problem", where},
          {"met", least ? ordered_json(*least >= at_least) : ordered_json(nullptr)}};
}

std::string FormatSeconds(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.2f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

}  // namespace

ordered_json Goals(const ordered_json& problems) {
  ordered_json goals = ordered_json::array();
  goals.push_back(Goal(problems, "matrix product: ours at 0.8 of OpenBLAS or more, every size", "matmul", 0.8,
                       [](const ordered_json& problem) {
                         const ordered_json* ours =
                             nullptr;  // the rung that packs inside the call, as OpenBLAS
                         for (const ordered_json& rung : problem["rungs"])
                           if (rung["name"] == "ours") ours = &rung;
                         return Ratio(Fastest(problem, true, "OpenBLAS"), ours);
                       }));
  goals.push_back(Goal(problems, "box filter: best rung at 10 times the naive one or more, every size",
                       "box_filter", 10, [](const ordered_json& problem) {
                         return Ratio(Fastest(problem, false, "naive"), Fastest(problem, false, ""));
                       }));
  for (const std::string_view family : {"relu", "leaky_relu"})
    goals.push_back(Goal(problems, fmt::format("{}: best rung at 0.9 of a copy or more, every size", family),
                         family, 0.9, [](const ordered_json& problem) {
                           return Ratio(Fastest(problem, true, "copy"), Fastest(problem, false, ""));
                         }));
  return goals;
}

void PrintProblem(const ordered_json& problem) {
  const ordered_json& floors = problem["floors"];
  fmt::print("\n{}: {} | {:.4g} operations, {:.4g} bytes | floors: arithmetic {}, copy {}\n",
             problem["family"].get<std::string>(), problem["problem"].get<std::string>(),
             problem["operations"].get<double>(), problem["bytes"].get<double>(),
             FormatSeconds(floors["arithmetic_seconds"].get<double>()),
             FormatSeconds(floors["copy_seconds"].get<double>()));
  fmt::print("{:38}{:8}{:>12}{:>11}{:>9}{:>10}{:>12}{:>14}\n", "rung", "set", "a call", "GFLOP/s", "GB/s",
             problem["memory_bound"].get<bool>() ? "of copy" : "of peak", "over first", "over previous");
  for (const ordered_json& rung : problem["rungs"]) {
    const auto number = [&rung](const char* key, std::string_view format) {
      return rung.contains(key) ? fmt::format(fmt::runtime(format), rung[key].get<double>()) : std::string();
    };
    fmt::print("{:38}{:8}{:>12}{:>11}{:>9}{:>9.1f}%{:>12}{:>14}\n", rung["name"].get<std::string>(),
               rung["isa"].get<std::string>(), FormatSeconds(Median(rung)), number("gflops", "{:.2f}"),
               number("gb_per_second", "{:.1f}"), 100 * rung["share_of_floor"].get<double>(),
               number("gain_over_first", "{:.2f}x"), number("gain_over_previous", "{:.2f}x"));
  }
}

void PrintGoals(const ordered_json& goals) {
  fmt::print("\n");
  for (const ordered_json& goal : goals) {
    const ordered_json& least = goal["least"];
    fmt::print("{}: {}\n", goal["goal"].get<std::string>(),
               least.is_null() ? "not measured"
                               : fmt::format("{} ({:.2f}, {})", goal["met"].get<bool>() ? "met" : "NOT MET",
                                             least.get<double>(), goal["problem"].get<std::string>()));
  }
}

}  // namespace thermocline::ladder
