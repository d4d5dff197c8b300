// Reads, checks and compares results; figures from files are checked where they are used.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_baseline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/mapped_file.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kResultLimitBytes = int64_t{64} << 20;

struct Figure {
  const char* name;
  const char* pointer;  // below the mode's object
  bool is_speed = false;
};

// Prefill is dense whatever the mode, so that the first mode's stands for all.
constexpr Figure kOfRun[] = {{"prefill tokens/s", "/prefill_tokens_per_second/median", true},
                             {"prefill GFLOP/s", "/prefill_gflop_per_second/median"},
                             {"first token ms", "/time_to_first_token_ms/median"}};
constexpr Figure kOfMode[] = {{"decode tokens/s", "/decode_tokens_per_second/median", true},
                              {"token p50 ms", "/inter_token_ms/p50"},
                              {"token p99 ms", "/inter_token_ms/p99"},
                              {"bytes/token", "/bytes_per_token"},
                              {"GB/s", "/gb_per_second"},
                              {"share of peak", "/share_of_peak"},
                              {"speed-up", "/speedup"},
                              {"share of bound", "/share_of_bound"}};

const ordered_json* At(const ordered_json& json, const std::string& pointer) {
  const ordered_json::json_pointer path(pointer);
  return json.contains(path) ? &json.at(path) : nullptr;
}

void Compare(const ordered_json& before, const ordered_json& now, const Figure& figure, ComparedFigure names,
             BenchComparison& comparison) {
  const std::optional<double> old_value = NumberAt(before, figure.pointer);
  const std::optional<double> new_value = NumberAt(now, figure.pointer);
  if (!old_value || !new_value || *old_value <= 0 || *new_value <= 0) return;
  names.name = figure.name;
  names.before = *old_value;
  names.now = *new_value;
  names.is_speed = figure.is_speed;
  comparison.figures.push_back(std::move(names));
}

void CompareModes(const std::string& plan, const ordered_json& before, const ordered_json& now,
                  BenchComparison& comparison) {
  const ordered_json* modes = At(now, "/modes");
  const ordered_json* modes_before = At(before, "/modes");
  if (modes == nullptr || modes_before == nullptr) return;
  bool first = true;
  for (const auto& [mode, figures] : modes->items()) {
    const auto earlier = modes_before->find(mode);
    if (earlier == modes_before->end()) continue;
    if (first) {
      for (const Figure& figure : kOfRun) Compare(*earlier, figures, figure, {.plan = plan}, comparison);
    }
    first = false;
    for (const Figure& figure : kOfMode)
      Compare(*earlier, figures, figure, {.plan = plan, .mode = mode}, comparison);
  }
}

std::string Shown(const ordered_json* value) {
  if (value == nullptr || value->is_null()) return "unknown";
  return value->is_string() ? value->get<std::string>() : value->dump(-1, ' ', true);
}

// What a message quotes of a file, in one line.
std::string OneLine(std::string text) {
  constexpr size_t kMost = 80;
  if (text.size() > kMost) text = text.substr(0, kMost) + "...";
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, ' ');
  return text;
}

std::vector<std::string> HardwareDifferences(const ordered_json& before, const ordered_json& now) {
  std::vector<std::string> differences;
  for (const char* name : {"cpu", "usable_cpus", "isa", "threads", "memory_bytes", "gpu"}) {
    const std::string pointer = fmt::format("/hardware/{}", name);
    const std::string old_value = Shown(At(before, pointer)), new_value = Shown(At(now, pointer));
    if (old_value != new_value)
      differences.push_back(fmt::format("{}: {}, here {}", name, OneLine(old_value), OneLine(new_value)));
  }
  return differences;
}

// Of figures far apart in size: four digits.
std::string Shown(double value) {
  return value >= 1e6 ? fmt::format("{:.0f}", value) : fmt::format("{:.4g}", value);
}

std::string NameOf(const ComparedFigure& figure) {
  std::string name = figure.plan;
  for (const std::string& part : {figure.mode, figure.name}) {
    if (!part.empty()) name += (name.empty() ? "" : " ") + part;
  }
  return name;
}

}  // namespace

std::optional<double> NumberAt(const ordered_json& json, const std::string& pointer) {
  const ordered_json* value = At(json, pointer);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  const double number = value->get<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

std::string TextAt(const ordered_json& json, const std::string& pointer) {
  const ordered_json* value = At(json, pointer);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

std::vector<std::pair<std::string, const ordered_json*>> RunsOf(const ordered_json& result) {
  std::vector<std::pair<std::string, const ordered_json*>> runs;
  const ordered_json* plans = At(result, "/plans");
  if (plans == nullptr) return {{"", &result}};
  for (const auto& [name, run] : plans->items()) runs.emplace_back(name, &run);
  return runs;
}

absl::StatusOr<ordered_json> ReadBaseline(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kResultLimitBytes));
  ordered_json json = ordered_json::parse(text, nullptr, false);
  if (json.is_discarded() || !json.is_object())
    return InvalidArgument("{}: no JSON object, so no result of `thermocline bench`", path);
  const ordered_json* schema = At(json, "/schema");
  if (schema == nullptr || *schema != kBenchSchema) {
    return InvalidArgument("{}: schema {}, this program compares results of schema {}", path,
                           OneLine(Shown(schema)), kBenchSchema);
  }
  const auto runs = RunsOf(json);
  if (runs.empty()) return InvalidArgument("{}: a result without figures", path);
  for (const auto& [plan, run] : runs) {
    const ordered_json* modes = At(*run, "/modes");
    if (modes == nullptr || !modes->is_object() || modes->empty())
      return InvalidArgument("{}: a result without figures of any mode", path);
  }
  return json;
}

absl::Status CheckBaseline(const ordered_json& baseline, const std::string& file,
                           const BenchWorkload& workload) {
  const bool has_plans = baseline.contains("plans");
  if (has_plans != !workload.plans.empty()) {
    return InvalidArgument("{}: a result {}, this run is {}", file,
                           has_plans ? "of --plans" : "without --plans", has_plans ? "without" : "of them");
  }
  const auto runs = RunsOf(baseline);
  for (const std::string& plan : workload.plans) {
    if (std::ranges::none_of(runs, [&](const auto& run) { return run.first == plan; }))
      return InvalidArgument("{}: a result without the plan {}", file, plan);
  }
  for (const auto& [plan, run] : runs) {
    if (const std::string hash = TextAt(*run, "/model/sha256"); hash != workload.model_sha256) {
      return InvalidArgument("{}: a result of another model, SHA-256 {}, this one is {}", file,
                             hash.empty() ? "unknown" : OneLine(hash), workload.model_sha256);
    }
    for (const auto& [name, tokens] : {std::pair("prompt_tokens", workload.prompt_tokens),
                                       std::pair("decode_tokens", workload.decode_tokens)}) {
      const ordered_json* value = At(*run, fmt::format("/{}", name));
      if (value == nullptr || *value != tokens)
        return InvalidArgument("{}: {} {}, this run has {}", file, name, OneLine(Shown(value)), tokens);
    }
  }
  return absl::OkStatus();
}

BenchComparison CompareBench(const ordered_json& baseline, const std::string& file,
                             const ordered_json& result) {
  BenchComparison comparison{.file = file};
  const auto runs_before = RunsOf(baseline), runs = RunsOf(result);
  for (const auto& [plan, run] : runs) {
    const auto before =
        std::ranges::find(runs_before, plan, [](const auto& earlier) { return earlier.first; });
    if (before == runs_before.end()) continue;
    if (comparison.figures.empty())
      comparison.hardware_differences = HardwareDifferences(*before->second, *run);
    Compare(*before->second, *run, {"reads GB/s", "/hardware/read_gb_per_second"}, {.plan = plan},
            comparison);
    CompareModes(plan, *before->second, *run, comparison);
  }
  return comparison;
}

ordered_json ComparisonJson(const BenchComparison& comparison) {
  ordered_json figures = ordered_json::array();
  for (const ComparedFigure& figure : comparison.figures) {
    ordered_json json = ordered_json::object();
    if (!figure.plan.empty()) json["plan"] = figure.plan;
    if (!figure.mode.empty()) json["mode"] = figure.mode;
    json["figure"] = figure.name;
    json["before"] = figure.before;
    json["now"] = figure.now;
    json["ratio"] = figure.ratio();
    figures.push_back(std::move(json));
  }
  return {{"file", std::filesystem::path(comparison.file).filename().string()},
          {"hardware_differences", comparison.hardware_differences},
          {"figures", std::move(figures)}};
}

void PrintBaseline(const BenchComparison& comparison) {
  fmt::print("\nbeside {}:\n{:40}{:>14}{:>14}{:>10}\n", comparison.file, "", "before", "now", "ratio");
  for (const ComparedFigure& figure : comparison.figures) {
    fmt::print("{:40}{:>14}{:>14}{:>10.3f}\n", NameOf(figure), Shown(figure.before), Shown(figure.now),
               figure.ratio());
  }
}

absl::Status CheckRatios(const BenchComparison& comparison, double least_ratio) {
  const ComparedFigure* worst = nullptr;
  for (const ComparedFigure& figure : comparison.figures) {
    if (figure.is_speed && (worst == nullptr || figure.ratio() < worst->ratio())) worst = &figure;
  }
  if (worst == nullptr) return FailedPrecondition("{}: no speed to compare with", comparison.file);
  if (worst->ratio() < least_ratio) {
    return FailedPrecondition("{}: {} is {:.3f} times the baseline's, --fail-below is {}", comparison.file,
                              NameOf(*worst), worst->ratio(), least_ratio);
  }
  return absl::OkStatus();
}

}  // namespace thermocline
