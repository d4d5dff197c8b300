// The sections of a bench result's page.
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cli/bench_assets.h"
#include "cli/bench_baseline.h"
#include "cli/bench_charts.h"
#include "profiler/report_page.h"
#include "profiler/report_text.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;

constexpr std::string_view kFooter =
    "<footer>\n<p><b>Share of the peak</b>: bytes read a second beside what the same threads read from "
    "memory in "
    "the same run; above 100\u00a0% the model fits into the cache. <b>What the bytes allow</b>: bytes that a "
    "dense "
    "token reads, over those that a token of the mode reads. The modes decode the same tokens in turn within "
    "each "
    "repetition; figures are medians, dots single repetitions. Prefill is dense in every mode.</p>\n"
    "<p>Made by <code>thermocline bench --plot</code>.</p>\n</footer>\n";

// A mode of a run, and of the baseline's run.
struct Row {
  std::string label;  // "exact", or with several plans "latency:24GiB exact"
  std::string mode;
  const ordered_json* now = nullptr;
  const ordered_json* before = nullptr;  // nullptr: none
};

double Value(const ordered_json* json, const std::string& pointer) {
  return json == nullptr ? kNotMeasured : NumberAt(*json, pointer).value_or(kNotMeasured);
}

const ordered_json* ModeOf(const ordered_json& run, const std::string& mode) {
  const ordered_json::json_pointer pointer = ordered_json::json_pointer("/modes") / mode;
  return run.contains(pointer) ? &run.at(pointer) : nullptr;
}

const ordered_json* RunOf(const ordered_json* result, const std::string& plan) {
  if (result == nullptr) return nullptr;
  for (const auto& [name, run] : RunsOf(*result)) {
    if (name == plan) return run;
  }
  return nullptr;
}

std::vector<Row> RowsOf(const ordered_json& result, const ordered_json* baseline) {
  std::vector<Row> rows;
  for (const auto& [plan, run] : RunsOf(result)) {
    const ordered_json* before = RunOf(baseline, plan);
    for (const auto& [mode, figures] : run->at("modes").items()) {
      rows.push_back({.label = plan.empty() ? mode : plan + " " + mode,
                      .mode = mode,
                      .now = &figures,
                      .before = before == nullptr ? nullptr : ModeOf(*before, mode)});
    }
  }
  return rows;
}

std::string Times(double value) { return FormatNumber(value) + "\u00d7"; }
std::string Milliseconds(double value) { return FormatNumber(value) + "\u00a0ms"; }

// ---- Charts

// The bar of a figure that has median, min, max and samples, and a thinner one of the baseline's.
void AddSpread(const Row& row, const std::string& pointer, const std::string& css_class,
               const std::string& label, std::vector<BenchBar>& bars) {
  const auto bar_of = [&](const ordered_json* mode, const std::string& of) {
    BenchBar bar{.css_class = css_class,
                 .value = Value(mode, pointer + "/median"),
                 .low = Value(mode, pointer + "/min"),
                 .high = Value(mode, pointer + "/max")};
    const ordered_json::json_pointer samples(pointer + "/samples");
    if (mode->contains(samples)) {
      for (size_t i = 0; i < mode->at(samples).size(); ++i)
        bar.samples.push_back(Value(mode, fmt::format("{}/samples/{}", pointer, i)));
    }
    bar.tip = fmt::format("{}{}: {} ({} to {})", of, label, FormatNumber(bar.value), FormatNumber(bar.low),
                          FormatNumber(bar.high));
    return bar;
  };
  bars.push_back(bar_of(row.now, ""));
  bars.back().label = label;
  if (row.before == nullptr) return;
  bars.push_back(bar_of(row.before, "Baseline, "));
  bars.back().css_class = "bar-before";
  bars.back().samples.clear();
}

// The same of a single number.
void AddBar(const Row& row, const std::string& pointer, std::string (*format)(double),
            std::vector<BenchBar>& bars) {
  bars.push_back({.label = row.label, .css_class = "bar-" + row.mode, .value = Value(row.now, pointer)});
  bars.back().tip = fmt::format("{}: {}", row.label, format(bars.back().value));
  if (row.before == nullptr) return;
  bars.push_back({.css_class = "bar-before", .value = Value(row.before, pointer)});
  bars.back().tip = fmt::format("Baseline, {}: {}", row.label, format(bars.back().value));
}

std::string Charts(const std::vector<BarChart>& charts) {
  std::string html = "<div class=\"charts\">\n";
  for (const BarChart& chart : charts) {
    if (!chart.bars.empty()) html += DrawBarChart(chart);
  }
  return html + "</div>\n";
}

std::string Key(std::string_view css_class, std::string_view text) {
  return fmt::format("<span class=\"key {}\"></span>{}", css_class, EscapeHtml(text));
}

std::string Legend(const std::string& keys) { return "<p class=\"legend\">" + keys + "</p>\n"; }

std::string RenderDecoding(const std::vector<Row>& rows, bool has_baseline) {
  BarChart speed = {.id = "decode-chart",
                    .title = "tokens/s",
                    .description = "Decoding speed by mode: medians, single repetitions and their spread.",
                    .format = FormatNumber};
  BarChart speedup = {.id = "speedup-chart",
                      .title = "times the speed of dense",
                      .description = "Speed-up of each mode against dense, beside what its bytes allow.",
                      .format = Times};
  for (const Row& row : rows) {
    AddSpread(row, "/decode_tokens_per_second", "bar-" + row.mode, row.label, speed.bars);
    const size_t first = speedup.bars.size();
    AddBar(row, "/speedup", Times, speedup.bars);
    speedup.bars[first].limit = Value(row.now, "/speedup_bound");
    speedup.bars[first].limit_is = "The bytes allow " + Times(speedup.bars[first].limit);
  }
  return Section("decoding", "Decoding",
                 "One token at a time after the prompt; each mode against dense in the same repetition.",
                 Charts({speed, speedup}) + Legend(Key("limit-key", "what the bytes allow") +
                                                   (has_baseline ? Key("bar-before", "the baseline") : "")));
}

std::string RenderMemory(const std::vector<Row>& rows) {
  BarChart share = {
      .id = "peak-chart",
      .title = "share of the measured peak",
      .description = "Bytes read a second by each mode, beside the reads measured in the same run.",
      .format = FormatShare};
  BarChart bytes = {.id = "bytes-chart",
                    .title = "read for each token",
                    .description = "Bytes that a token reads in each mode, those of neurons and the rest.",
                    .format = FormatBytes,
                    .tick_base = 1024};
  for (const Row& row : rows) {
    const size_t first = share.bars.size();
    AddBar(row, "/share_of_peak", FormatShare, share.bars);
    share.bars[first].limit = 1;
    share.bars[first].limit_is = "The measured peak";
    const double all = Value(row.now, "/bytes_per_token"),
                 neurons = Value(row.now, "/neuron_bytes_per_token");
    bytes.bars.push_back(
        {.label = row.label,
         .css_class = "bar-" + row.mode,
         .value = neurons,
         .rest = all - neurons,
         .tip = fmt::format("{}: {} of neurons and predictors, {} of attention, cache and head", row.label,
                            FormatBytes(neurons), FormatBytes(all - neurons))});
  }
  return Section(
      "memory", "Against the memory",
      "Decoding is bound by the bytes that it moves: how near to the machine's reads, and how many bytes.",
      Charts({share, bytes}) + Legend(Key("limit-key", "the measured peak") +
                                      Key("bar-rest",
                                          "attention, keys and values, head: only mode threshold leaves "
                                          "some of it out")));
}

std::string RenderTimes(const std::vector<Row>& rows) {
  BarChart times = {.id = "times-chart",
                    .title = "milliseconds between tokens",
                    .description = "Time between tokens by mode: the median, and what 99 of 100 tokens keep.",
                    .format = FormatNumber};
  BarChart prefill = {.id = "prefill-chart",
                      .title = "tokens/s of prefill",
                      .description = "Prefill speed: median, single repetitions and their spread.",
                      .format = FormatNumber};
  for (const Row& row : rows) {
    const size_t first = times.bars.size();
    AddBar(row, "/inter_token_ms/p50", Milliseconds, times.bars);
    times.bars[first].limit = Value(row.now, "/inter_token_ms/p99");
    times.bars[first].limit_is = "99 of 100 tokens within " + Milliseconds(times.bars[first].limit);
    if (row.mode != "dense") continue;  // prefill is dense in every mode
    const std::string plan = row.label.substr(0, row.label.size() - row.mode.size());
    AddSpread(row, "/prefill_tokens_per_second", "bar-prefill", plan.empty() ? "prefill" : plan,
              prefill.bars);
  }
  return Section("times", "Time between tokens, and the prompt",
                 "What a reader waits for: the prompt's tokens at once, then one token after the other.",
                 Charts({times, prefill}) + Legend(Key("limit-key", "99 of 100 tokens")));
}

// ---- Crossover and tables

std::string Head(std::initializer_list<std::string_view> names) {
  std::string html = "<thead><tr>";
  for (const std::string_view name : names) {
    html += fmt::format("<th scope=\"col\"{}>{}</th>", name == *names.begin() ? "" : " class=\"number\"",
                        EscapeHtml(name));
  }
  return html + "</tr></thead>\n";
}

std::string Table(const std::string& head, const std::string& rows) {
  return "<div class=\"scroll\"><table>" + head + "<tbody>\n" + rows + "</tbody></table></div>\n";
}

std::string RowOf(std::string_view name, const std::string& cells) {
  return fmt::format("<tr><th scope=\"row\">{}</th>{}</tr>\n", EscapeHtml(name), cells);
}

// The first run that has one.
const ordered_json* CrossoverOf(const ordered_json* result) {
  if (result == nullptr) return nullptr;
  for (const auto& [plan, run] : RunsOf(*result)) {
    const ordered_json::json_pointer rows("/crossover/rows");
    if (run->contains(rows) && run->at(rows).is_array()) return &run->at("crossover");
  }
  return nullptr;
}

std::string RenderCrossover(const ordered_json& result, const ordered_json* baseline) {
  const ordered_json* crossover = CrossoverOf(&result);
  const ordered_json* before = CrossoverOf(baseline);
  if (crossover == nullptr) return "";
  std::vector<CrossoverPoint> points;
  std::string rows;
  for (size_t i = 0; i < crossover->at("rows").size(); ++i) {
    const ordered_json* row = &crossover->at("rows")[i];
    const std::string earlier = fmt::format("/rows/{}", i);
    CrossoverPoint& point = points.emplace_back();
    point = {.sparsity = Value(row, "/sparsity"),
             .speedup = Value(row, "/speedup/median"),
             .low = Value(row, "/speedup/min"),
             .high = Value(row, "/speedup/max"),
             .bound = Value(row, "/speedup_bound")};
    if (Value(before, earlier + "/sparsity") == point.sparsity)
      point.before = Value(before, earlier + "/speedup/median");
    rows += RowOf(FormatShare(point.sparsity), Cell(FormatNumber(Value(row, "/dense_us/median"))) +
                                                   Cell(FormatNumber(Value(row, "/sparse_us/median"))) +
                                                   Cell(Times(point.speedup), "number strong") +
                                                   Cell(Times(point.bound)) +
                                                   Cell(FormatColumnShare(point.speedup / point.bound)));
  }
  const double wins_from = Value(crossover, "/sparse_wins_from");
  const std::string verdict = std::isfinite(wins_from)
                                  ? fmt::format("Sparse is faster from {} on.", FormatShare(wins_from))
                                  : std::string("Sparse is faster nowhere.");
  std::string keys =
      Key("bar-predicted", "measured, with its spread") + Key("limit-key", "what the bytes allow");
  if (before != nullptr) keys += Key("bar-before", "the baseline");
  return Section(
      "crossover", "From which sparsity on leaving neurons out pays",
      fmt::format("A feed-forward block of {} neurons of width {} ({} and {}), one token, times in "
                  "microseconds. {}",
                  FormatNumber(Value(crossover, "/d_ff")), FormatNumber(Value(crossover, "/d_model")),
                  TextAt(*crossover, "/gate_type"), TextAt(*crossover, "/down_type"), verdict),
      DrawCrossover(points) + Legend(keys) +
          Table(Head({"silent neurons", "dense \u00b5s", "sparse \u00b5s", "speed-up", "the bytes allow",
                      "share of it"}),
                rows));
}

// Whether more is better; the figures where it is neither are compared without praise.
std::string RatioClass(const std::string& figure, double ratio) {
  if (figure == "bytes/token" || (ratio > 0.98 && ratio < 1.02)) return "number";
  const bool less_is_better = figure.ends_with(" ms");
  return (ratio > 1) != less_is_better ? "number better" : "number worse";
}

std::string RenderBaselineTable(const ordered_json& result) {
  const ordered_json::json_pointer pointer("/baseline/figures");
  if (!result.contains(pointer)) return "";
  std::string rows;
  for (const ordered_json& figure : result.at(pointer)) {
    const std::string name = TextAt(figure, "/figure");
    const double ratio = Value(&figure, "/ratio");
    std::string label = TextAt(figure, "/plan");
    for (const std::string& part : {TextAt(figure, "/mode"), name})
      label += (label.empty() || part.empty() ? "" : " ") + part;
    rows += RowOf(label, Cell(FormatNumber(Value(&figure, "/before"))) +
                             Cell(FormatNumber(Value(&figure, "/now")), "number strong") +
                             Cell(FormatFixed(ratio, 3), RatioClass(name, ratio)));
  }
  std::string differences;
  for (const ordered_json& difference : result["baseline"]["hardware_differences"])
    differences += (differences.empty() ? "" : "; ") + difference.get<std::string>();
  return Section("baseline", "Beside the baseline",
                 fmt::format("{}, {}.", TextAt(result, "/baseline/file"),
                             differences.empty() ? "measured on the same hardware"
                                                 : "measured on other hardware: " + differences),
                 Table(Head({"figure", "before", "now", "ratio"}), rows));
}

std::string RenderFigures(const std::vector<Row>& rows) {
  std::string html;
  for (const Row& row : rows) {
    const auto value = [&](const std::string& pointer) { return Value(row.now, pointer); };
    html += RowOf(
        row.label,
        Cell(FormatNumber(value("/decode_tokens_per_second/median")), "number strong") +
            Cell(fmt::format("{} to {}", FormatNumber(value("/decode_tokens_per_second/min")),
                             FormatNumber(value("/decode_tokens_per_second/max")))) +
            Cell(FormatBytes(value("/bytes_per_token"))) + Cell(FormatFixed(value("/gb_per_second"), 1)) +
            Cell(FormatColumnShare(value("/share_of_peak"))) + Cell(FormatFixed(value("/speedup"), 2)) +
            Cell(FormatFixed(value("/speedup_bound"), 2)) +
            Cell(FormatColumnShare(value("/share_of_bound"))) +
            Cell(FormatFixed(value("/inter_token_ms/p50"), 2)) +
            Cell(FormatFixed(value("/inter_token_ms/p99"), 2)) +
            Cell(FormatFixed(value("/time_to_first_token_ms/median"), 1)));
  }
  return Section("figures", "All figures", "Medians over the repetitions.",
                 Table(Head({"mode", "tokens/s", "spread", "bytes/token", "GB/s", "of peak", "speed-up",
                             "bytes allow", "share of it", "p50 ms", "p99 ms", "first token ms"}),
                       html));
}

// ---- The top

const Row& Fastest(const std::vector<Row>& rows) {
  return *std::ranges::max_element(rows, {}, [](const Row& row) {
    const double speed = Value(row.now, "/decode_tokens_per_second/median");
    return std::isfinite(speed) ? speed : -1;
  });
}

std::string Finding(const std::vector<Row>& rows) {
  const Row& fastest = Fastest(rows);
  const double speed = Value(fastest.now, "/decode_tokens_per_second/median");
  const double share = Value(fastest.now, "/share_of_peak");
  if (fastest.mode == "dense") {
    return fmt::format("{} tokens a second, dense, at {} of the memory's measured reads.",
                       FormatNumber(speed), FormatShare(share));
  }
  return fmt::format(
      "{} tokens a second in mode {}: {} times dense with the same weights, which is {} of what the bytes "
      "allow.",
      FormatNumber(speed), fastest.label, FormatNumber(Value(fastest.now, "/speedup")),
      FormatShare(Value(fastest.now, "/share_of_bound")));
}

std::string RenderHeader(const ordered_json& run, const ordered_json& result, const std::vector<Row>& rows) {
  const auto value = [&](const char* pointer) { return Value(&run, pointer); };
  std::string facts;
  facts += Fact("Processor", TextAt(run, "/hardware/cpu"));
  facts += Fact("Kernels, threads", fmt::format("{}, {} of {} CPUs", TextAt(run, "/hardware/isa"),
                                                FormatNumber(value("/hardware/threads")),
                                                FormatNumber(value("/hardware/usable_cpus"))));
  facts += Fact("Memory", fmt::format("{}, reads {} GB/s", FormatBytes(value("/hardware/memory_bytes")),
                                      FormatNumber(value("/hardware/read_gb_per_second"))));
  if (const std::string gpu = TextAt(run, "/hardware/gpu"); !gpu.empty()) facts += Fact("GPU", gpu);
  facts +=
      Fact("Weights", fmt::format("{}, {}", TextAt(run, "/model/type"), FormatBytes(value("/model/bytes"))));
  facts += Fact("Tokens", fmt::format("{} of prompt, {} decoded", FormatNumber(value("/prompt_tokens")),
                                      FormatNumber(value("/decode_tokens"))));
  facts += Fact("Build", fmt::format("Thermocline {} {}; {}, {} {}", TextAt(run, "/build/version"),
                                     TextAt(run, "/build/revision"), TextAt(run, "/build/compiler"),
                                     TextAt(run, "/build/type"), TextAt(run, "/build/flags")));
  facts += Fact("Model hash (SHA-256)", TextAt(run, "/model/sha256"), "hash");
  if (const std::string hash = TextAt(run, "/profile/sha256"); !hash.empty())
    facts += Fact("Profile hash (SHA-256)", hash, "hash");
  const ordered_json::json_pointer emulated("/emulated");
  const bool is_emulated = run.contains(emulated) && run.at(emulated) == true;
  return fmt::format(
      "<header>\n<p class=\"kicker\">Thermocline · benchmark{}</p>\n<h1>{}</h1>\n{}<p "
      "class=\"finding\">{}</p>\n<dl "
      "class=\"facts\">\n{}</dl>\n</header>\n",
      result.contains("plans") ? " of several plans" : "", EscapeHtml(TextAt(run, "/model/file")),
      is_emulated ? "<p class=\"badge\">Emulated accelerator: its timings were measured on the CPU</p>\n"
                  : "",
      EscapeHtml(Finding(rows)), facts);
}

std::string RenderHeadline(const std::vector<Row>& rows) {
  const Row& fastest = Fastest(rows);
  const auto value = [&](const char* pointer) { return Value(fastest.now, pointer); };
  const auto range = [&](const std::string& pointer) {
    return fmt::format("{} to {}", FormatNumber(Value(fastest.now, pointer + "/min")),
                       FormatNumber(Value(fastest.now, pointer + "/max")));
  };
  std::string tiles;
  tiles +=
      Tile("figure-speed", "Decoding", FormatNumber(value("/decode_tokens_per_second/median")) + " tokens/s",
           fmt::format("{}, {}", fastest.label, range("/decode_tokens_per_second")));
  tiles += Tile("figure-speedup", "Against dense", Times(value("/speedup")),
                fmt::format("the bytes allow {}", Times(value("/speedup_bound"))));
  tiles += Tile("figure-peak", "Of the measured reads", FormatShare(value("/share_of_peak")),
                fmt::format("{} GB/s", FormatNumber(value("/gb_per_second"))));
  tiles += Tile("figure-prefill", "Prefill",
                FormatNumber(value("/prefill_tokens_per_second/median")) + " tokens/s",
                fmt::format("{} GFLOP/s", FormatNumber(value("/prefill_gflop_per_second/median"))));
  tiles += Tile("figure-first-token", "First token", Milliseconds(value("/time_to_first_token_ms/median")),
                range("/time_to_first_token_ms") + "\u00a0ms");
  tiles += Tile("figure-token", "Between tokens", Milliseconds(value("/inter_token_ms/p50")),
                fmt::format("99 of 100 within {}", Milliseconds(value("/inter_token_ms/p99"))));
  return fmt::format("<dl class=\"tiles\" id=\"headline\">\n{}</dl>\n", tiles);
}

}  // namespace

std::string RenderBenchPage(const ordered_json& result, const ordered_json* baseline) {
  const std::vector<Row> rows = RowsOf(result, baseline);
  const ordered_json& run = *RunsOf(result).front().second;
  std::string body = RenderHeader(run, result, rows) + RenderHeadline(rows);
  body += RenderDecoding(rows, baseline != nullptr);
  body += RenderMemory(rows);
  body += RenderTimes(rows);
  body += RenderCrossover(result, baseline);
  body += RenderBaselineTable(result);
  body += RenderFigures(rows);
  body += kFooter;
  return RenderPage(TextAt(run, "/model/file"), kBenchStyle, body);
}

}  // namespace thermocline
