// JSON and tables.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_output.h"

#include <algorithm>

#include "cli/bench_baseline.h"
#include "cli/build_description.h"
#include "cli/size_format.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;

ordered_json ToJson(const Samples& samples) {
  return {{"median", samples.median()},
          {"min", samples.min()},
          {"max", samples.max()},
          {"samples", samples.values}};
}

// The type that holds most of the model's bytes.
std::string MainType(const Checkpoint& checkpoint) {
  return std::string(NameOf(checkpoint.tensors.TypesByBytes().front()));
}

bool HasAccelerators(const BenchResult& result) { return result.model->runner->devices().size() > 1; }

ordered_json ModeJson(const ModeFigures& mode, const BenchResult& result) {
  const double speedup = mode.speedup.median();
  ordered_json json = {{"decode_tokens_per_second", ToJson(mode.decode_tokens_per_second)},
                       {"prefill_tokens_per_second", ToJson(result.figures.prefill_tokens_per_second)},
                       {"prefill_gflop_per_second", ToJson(result.figures.prefill_gflop_per_second)},
                       {"time_to_first_token_ms", ToJson(result.figures.first_token_ms)},
                       {"inter_token_ms",
                        {{"p50", mode.inter_token_ms_p50},
                         {"p99", mode.inter_token_ms_p99},
                         {"p50_samples", mode.inter_token_ms_p50_each.values},
                         {"p99_samples", mode.inter_token_ms_p99_each.values}}},
                       {"bytes_per_token", mode.bytes_per_token},
                       {"neuron_bytes_per_token", mode.neuron_bytes_per_token},
                       {"gb_per_second", mode.gb_per_second.median()},
                       {"share_of_peak", mode.share_of_peak.median()},
                       {"share_of_peak_samples", mode.share_of_peak.values},
                       {"speedup", speedup},
                       {"speedup_samples", mode.speedup.values},
                       {"speedup_bound", mode.speedup_bound},
                       {"share_of_bound", speedup / mode.speedup_bound}};
  if (mode.mode != NeuronMode::kDense) {
    json["marked_share"] = mode.marked_share;
    json["active_share"] = mode.active_share;
  }
  if (mode.mode == NeuronMode::kPredicted) json["quality"] = NameOf(result.quality);
  if (mode.mode == NeuronMode::kThreshold) {
    const ThresholdSet& thresholds = *result.model->thresholds;
    json["thresholds"] = {{"method", NameOf(thresholds.method)},
                          {"target", thresholds.target},
                          {"skipped", thresholds.skipped()}};
  }
  if (HasAccelerators(result)) {
    json["overlap_ratio"] = ToJson(mode.overlap_ratio);
    json["hand_over_us"] = ToJson(mode.hand_over_micros);
    json["hand_overs_per_token"] = mode.hand_overs_per_token;
  }
  return json;
}

// Of a run with an accelerator. A plan foretells mode predicted, and where there are no predictors exact;
// whole layers, the dense split.
ordered_json PlanFigures(const BenchResult& result) {
  const Plan& plan = *result.model->plan;
  int64_t used_bytes = 0;
  for (const Device* device : result.model->runner->devices()) {
    if (device->kind() != DeviceKind::kCpu) used_bytes += device->used_bytes();
  }
  const ModeFigures& foretold = plan.objective == PlacementObjective::kLayers ? result.figures.modes.front()
                                                                              : result.figures.modes.back();
  const double predicted = plan.prediction.tokens_per_second;
  const double measured = foretold.decode_tokens_per_second.median();
  return {{"objective", NameOf(plan.objective)},
          {"hot_neurons", plan.hot_neurons()},
          {"budget_bytes", plan.accelerator_budget()},
          {"used_bytes", used_bytes},
          {"used_share_of_budget",
           static_cast<double>(used_bytes) / static_cast<double>(plan.accelerator_budget())},
          {"binding", plan.prediction.binding},
          {"mode", NameOf(foretold.mode)},
          {"predicted_tokens_per_second", predicted},
          {"measured_tokens_per_second", measured},
          {"measured_over_predicted",
           predicted > 0 ? ordered_json(measured / predicted) : ordered_json(nullptr)}};
}

ordered_json CrossoverJson(const SyntheticShape& shape, const Crossover& crossover) {
  ordered_json rows = ordered_json::array();
  for (const CrossoverRow& row : crossover.rows) {
    rows.push_back({{"sparsity", row.sparsity},
                    {"neurons", row.neurons},
                    {"dense_us", ToJson(row.dense_micros)},
                    {"sparse_us", ToJson(row.sparse_micros)},
                    {"speedup", ToJson(row.speedup)},
                    {"speedup_bound", row.speedup_bound}});
  }
  const auto wins_from = crossover.wins_from();
  return {{"d_model", shape.d_model},
          {"d_ff", shape.d_ff},
          {"gated", shape.gated},
          {"gate_type", NameOf(shape.gate_type)},
          {"down_type", NameOf(shape.down_type)},
          {"sparse_wins_from", wins_from ? ordered_json(*wins_from) : ordered_json(nullptr)},
          {"rows", std::move(rows)}};
}

std::string Range(const Samples& samples) {
  return fmt::format("({:.1f} to {:.1f})", samples.min(), samples.max());
}

void PrintModes(const BenchResult& result) {
  fmt::print("{:10}{:>16} {:>20}{:>14}{:>8}{:>9}{:>10}{:>9}{:>10}{:>10}{:>10}\n", "mode", "decode tokens/s",
             "(min to max)", "bytes/token", "GB/s", "of peak", "speed-up", "allowed", "of it", "p50 ms",
             "p99 ms");
  for (const ModeFigures& mode : result.figures.modes) {
    const bool is_dense = mode.mode == NeuronMode::kDense;
    const double speedup = mode.speedup.median();
    fmt::print("{:10}{:>16.1f} {:>20}{:>14}{:>8.1f}{:>8.0f}%{:>9.2f}x{:>9}{:>10}{:>10.2f}{:>10.2f}\n",
               NameOf(mode.mode), mode.decode_tokens_per_second.median(),
               Range(mode.decode_tokens_per_second), FormatBytes(mode.bytes_per_token),
               mode.gb_per_second.median(), 100 * mode.share_of_peak.median(), speedup,
               is_dense ? "" : fmt::format("{:.2f}x", mode.speedup_bound),
               is_dense ? "" : fmt::format("{:.0f}%", 100 * speedup / mode.speedup_bound),
               mode.inter_token_ms_p50, mode.inter_token_ms_p99);
  }
  const BenchFigures& figures = result.figures;
  fmt::print("\nprefill of {} tokens: {:.1f} tokens/s {}, {:.0f} GFLOP/s; first token after {:.1f} ms {}\n",
             result.prompt_tokens, figures.prefill_tokens_per_second.median(),
             Range(figures.prefill_tokens_per_second), figures.prefill_gflop_per_second.median(),
             figures.first_token_ms.median(), Range(figures.first_token_ms));
  fmt::print("prefill is dense in every mode; medians of {} repetitions\n",
             figures.prefill_tokens_per_second.values.size());
  for (const ModeFigures& mode : figures.modes) {
    if (mode.mode == NeuronMode::kDense) continue;
    if (mode.mode == NeuronMode::kThreshold) {
      const ThresholdSet& thresholds = *result.model->thresholds;
      fmt::print(
          "threshold ({}, {:.0f}% asked for): {:.1f}% of the hidden layers' values kept; {} of its bytes a "
          "token "
          "are of neurons\n",
          NameOf(thresholds.method), 100 * thresholds.target, 100 * mode.active_share,
          FormatBytes(mode.neuron_bytes_per_token));
      continue;
    }
    fmt::print(
        "{}{}: {:.1f}% of the neurons marked, {:.1f}% active; {} of its bytes a token are of neurons{}\n",
        NameOf(mode.mode),
        mode.mode == NeuronMode::kPredicted ? fmt::format(" ({})", NameOf(result.quality)) : "",
        100 * mode.marked_share, 100 * mode.active_share, FormatBytes(mode.neuron_bytes_per_token),
        mode.mode == NeuronMode::kPredicted ? " and predictors" : "");
  }
}

void PrintDevices(const BenchResult& result) {
  for (const ModeFigures& mode : result.figures.modes) {
    fmt::print(
        "{}: CPU and accelerator overlap {:.0f}% of the less busy one's time; {:.0f} hand-overs a token of "
        "{:.1f} us{}\n",
        NameOf(mode.mode), 100 * mode.overlap_ratio.median(), mode.hand_overs_per_token,
        mode.hand_over_micros.median(), result.model->emulated() ? " (emulated)" : "");
  }
}

void PrintPlanFigures(const ordered_json& plan) {
  fmt::print(
      "plan for {}: {} of {} used ({:.1f}%), {} hot neurons; {} tokens/s expected in mode {}, {:.1f} "
      "measured\n",
      plan["objective"].get<std::string>(), FormatBytes(plan["used_bytes"].get<int64_t>()),
      FormatBytes(plan["budget_bytes"].get<int64_t>()), 100 * plan["used_share_of_budget"].get<double>(),
      plan["hot_neurons"].get<int64_t>(),
      fmt::format("{:.1f}", plan["predicted_tokens_per_second"].get<double>()),
      plan["mode"].get<std::string>(), plan["measured_tokens_per_second"].get<double>());
}

void PrintCrossover(const SyntheticShape& shape, const Crossover& crossover) {
  fmt::print("\nA feed-forward block of {} neurons of width {}, {} and {}, one token:\n", shape.d_ff,
             shape.d_model, NameOf(shape.gate_type), NameOf(shape.down_type));
  fmt::print("{:>8}{:>12}{:>12}{:>10}{:>9}\n", "silent", "dense us", "sparse us", "speedup", "bound");
  for (const CrossoverRow& row : crossover.rows) {
    fmt::print("{:>7.0f}%{:>12.1f}{:>12.1f}{:>9.2f}x{:>8.2f}x\n", 100 * row.sparsity,
               row.dense_micros.median(), row.sparse_micros.median(), row.speedup.median(),
               row.speedup_bound);
  }
  const auto wins_from = crossover.wins_from();
  fmt::print("{}\n", wins_from ? fmt::format("sparse wins from {:.0f}%", 100 * *wins_from)
                               : std::string("sparse wins nowhere"));
}

ordered_json OrNull(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json HardwareJson(const BenchResult& result) {
  const LoadedModel& model = *result.model;
  ordered_json json = {{"cpu", result.cpu.model_name},
                       {"usable_cpus", result.cpu.usable_threads},
                       {"isa", model.cpu.kernels->isa},
                       {"threads", model.team->threads()},
                       {"memory_bytes", result.cpu.memory_bytes},
                       {"last_level_cache_bytes", result.cpu.last_level_cache_bytes},
                       {"read_gb_per_second", result.figures.read_gb_per_second.median()},
                       {"read_gb_per_second_samples", result.figures.read_gb_per_second.values}};
  if (!result.gpu.empty()) json["gpu"] = result.gpu;
  return json;
}

}  // namespace

ordered_json BenchJson(const BenchResult& result) {
  const LoadedModel& model = *result.model;
  ordered_json modes = ordered_json::object();
  for (const ModeFigures& mode : result.figures.modes)
    modes[std::string(NameOf(mode.mode))] = ModeJson(mode, result);
  ordered_json json = {{"schema", kBenchSchema},
                       {"version", THERMOCLINE_VERSION},
                       {"build", DescribeBuild()},
                       {"hardware", HardwareJson(result)},
                       {"model",
                        {{"file", FileNameOf(model.checkpoint.path)},
                         {"sha256", model.checkpoint.Sha256()},
                         {"type", MainType(model.checkpoint)},
                         {"bytes", model.checkpoint.total_bytes()}}},
                       {"profile",
                        {{"sha256", OrNull(result.profile_sha256)},
                         {"predictors_sha256", OrNull(result.predictors_sha256)},
                         {"thresholds_sha256", OrNull(result.thresholds_sha256)}}},
                       {"prompt_tokens", result.prompt_tokens},
                       {"decode_tokens", result.decode_tokens},
                       {"modes", std::move(modes)},
                       {"emulated", model.emulated()}};
  if (HasAccelerators(result)) {
    ordered_json devices = ordered_json::array();
    for (const Device* device : model.runner->devices())
      devices.push_back({{"name", device->name()}, {"used_bytes", device->used_bytes()}});
    json["devices"] = std::move(devices);
    json["plan"] = PlanFigures(result);
  }
  if (result.crossover) json["crossover"] = CrossoverJson(result.crossover_shape, *result.crossover);
  return json;
}

void PrintBench(const BenchResult& result) {
  const LoadedModel& model = *result.model;
  const ordered_json build = DescribeBuild();
  fmt::print("{} | {} kernels, {} threads of {} CPUs | {} of memory, reads {:.1f} GB/s {}\n",
             result.cpu.model_name, model.cpu.kernels->isa, model.team->threads(), result.cpu.usable_threads,
             FormatBytes(result.cpu.memory_bytes), result.figures.read_gb_per_second.median(),
             Range(result.figures.read_gb_per_second));
  if (!result.gpu.empty()) fmt::print("{}\n", result.gpu);
  fmt::print("{} | {} | sha256 {}\n", model.checkpoint.path, MainType(model.checkpoint),
             model.checkpoint.Sha256());
  if (!result.profile_sha256.empty()) fmt::print("profile sha256 {}\n", result.profile_sha256);
  fmt::print("thermocline {}{} | {}, {} {}\n\n", THERMOCLINE_VERSION,
             build["revision"].is_null() ? "" : " at " + build["revision"].get<std::string>(),
             build["compiler"].get<std::string>(), build["type"].get<std::string>(),
             build["flags"].get<std::string>());
  PrintModes(result);
  if (HasAccelerators(result)) {
    PrintDevices(result);
    PrintPlanFigures(PlanFigures(result));
  }
  int64_t most_bytes = 0;
  for (const ModeFigures& mode : result.figures.modes)
    most_bytes = std::max(most_bytes, mode.bytes_per_token);
  if (most_bytes < result.cpu.last_level_cache_bytes) {
    fmt::print(
        "\nWhat a token reads fits into the last-level cache ({}), so memory bandwidth does not bound this "
        "model.\n",
        FormatBytes(result.cpu.last_level_cache_bytes));
  }
  if (result.crossover) PrintCrossover(result.crossover_shape, *result.crossover);
}

void BenchRuns::Add(const std::string& plan, const BenchResult& result) {
  ordered_json run = BenchJson(result);
  if (plan.empty()) {
    json_ = std::move(run);
    return;
  }
  if (json_.is_null())
    json_ = {{"schema", kBenchSchema}, {"version", THERMOCLINE_VERSION}, {"plans", ordered_json::object()}};
  if (run.contains("plan") && run["plan"]["objective"] != "layers") {
    for (const auto& other : json_["plans"]) {
      const ordered_json& split = other["plan"];
      if (split["objective"] != "layers" || split["budget_bytes"] != run["plan"]["budget_bytes"]) continue;
      // Of quantised models neurons are held in more bytes than the file's (down as Q8_0), which slows a
      // dense step down. Had it read the file's bytes at the same rate, it would have taken this share of its
      // time.
      const double share = std::min(1.0, run["model"]["bytes"].get<double>() /
                                             other["modes"]["dense"]["bytes_per_token"].get<double>());
      for (auto& mode : run["modes"]) {
        const double speedup = mode["decode_tokens_per_second"]["median"].get<double>() /
                               split["measured_tokens_per_second"].get<double>();
        mode["speedup_over_dense_split"] = speedup;
        mode["speedup_over_dense_split_of_file_bytes"] = speedup * share;
      }
    }
  }
  json_["plans"][plan] = std::move(run);
}

void BenchRuns::PrintComparison() const {
  if (!json_.contains("plans")) return;
  fmt::print("\n{:20}{:11}{:>12}{:>12}{:>16}{:>22}\n", "plan", "mode", "tokens/s", "expected",
             "of the budget", "over the dense split");
  for (const auto& [name, run] : json_["plans"].items()) {
    const ordered_json& plan = run["plan"];
    for (const auto& [mode, figures] : run["modes"].items()) {
      const auto speedup = figures.find("speedup_over_dense_split");
      fmt::print("{:20}{:11}{:>12.1f}{:>12}{:>15.1f}%{:>22}\n", name, mode,
                 figures["decode_tokens_per_second"]["median"].get<double>(),
                 plan["mode"] == mode
                     ? fmt::format("{:.1f}", plan["predicted_tokens_per_second"].get<double>())
                     : "",
                 100 * plan["used_share_of_budget"].get<double>(),
                 speedup != figures.end()
                     ? fmt::format("{:.2f}x ({:.2f}x)", speedup->get<double>(),
                                   figures["speedup_over_dense_split_of_file_bytes"].get<double>())
                     : "");
    }
  }
  fmt::print("in brackets: over a dense split that would read no more than the file's bytes\n");
}

}  // namespace thermocline
