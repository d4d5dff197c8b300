// thermocline bench: decode and prefill speed by mode, beside the memory bandwidth measured in the same run.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>

#include "cli/bench_baseline.h"
#include "cli/bench_output.h"
#include "cli/bench_page.h"
#include "cli/commands.h"
#include "cli/planning_flags.h"
#include "core/mapped_file.h"
#include "kernels_cuda/device_info.h"
#include "model/quantize.h"
#include "profiler/bandwidth.h"
#include "profiler/threshold_allocation.h"
#include "profiler/threshold_calibration.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kTextLimitBytes = int64_t{1} << 30;

struct Flags {
  ModelFlags model;
  ExecutionFlags execution;
  std::vector<std::string> modes;            // empty: all that the model and its profile have
  std::vector<std::string> plans;            // "layers:24GiB"; empty: one run with the plan that there is
  std::optional<double> threshold_sparsity;  // absent: the profile's thresholds
  std::string quality = "balanced";
  std::string text;  // empty: made-up tokens
  int64_t prompt_tokens = 128;
  int64_t decode_tokens = 64;
  int repetitions = 5;
  bool crossover = false;
  std::string json_path;
  std::string baseline;   // an earlier result
  double fail_below = 0;  // 0: never
  std::string plot_path;
};

constexpr NeuronMode kModes[] = {NeuronMode::kDense, NeuronMode::kExact, NeuronMode::kPredicted,
                                 NeuronMode::kThreshold};

// What a runner of a mode can measure: one that leaves neurons out has what leaves fewer out too.
std::vector<NeuronMode> ModesOf(NeuronMode runner) {
  if (runner == NeuronMode::kThreshold) return {NeuronMode::kDense, NeuronMode::kThreshold};
  return {std::begin(kModes), std::ranges::find(kModes, runner) + 1};
}

// Dense, of which the others are measured as multiples, and what was asked for.
absl::StatusOr<std::vector<NeuronMode>> ParseModes(const std::vector<std::string>& names) {
  std::vector<NeuronMode> modes;
  for (const NeuronMode mode : kModes) {
    const bool asked_for = std::ranges::find(names, NameOf(mode)) != names.end();
    if (mode == NeuronMode::kDense || asked_for) modes.push_back(mode);
  }
  for (const std::string& name : names) {
    if (std::ranges::none_of(kModes, [&](NeuronMode mode) { return NameOf(mode) == name; }))
      return FieldError("--modes",
                        fmt::format("'{}' is unknown; known are dense, exact, predicted, threshold", name));
  }
  if (modes.back() == NeuronMode::kThreshold && modes.size() > 2) {
    return FieldError(
        "--modes",
        fmt::format("has {} beside threshold, which needs the weights laid out otherwise", NameOf(modes[1])));
  }
  return modes;
}

absl::Status CheckAtLeastOne(std::string_view flag, int64_t value) {
  if (value < 1) return FieldError(flag, fmt::format("is {}, at least 1 is needed", value));
  return absl::OkStatus();
}

// From the text, or the same made-up tokens every time.
absl::StatusOr<std::vector<TokenId>> BenchPrompt(const Flags& flags, const LoadedModel& model) {
  std::vector<TokenId> tokens;
  const auto count = static_cast<size_t>(flags.prompt_tokens);
  if (flags.text.empty()) {
    for (size_t i = 0; i < count; ++i)
      tokens.push_back(static_cast<TokenId>((1 + i * 7919) % static_cast<size_t>(model.runner->n_vocab())));
    return tokens;
  }
  TC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(flags.text, kTextLimitBytes));
  TC_ASSIGN_OR_RETURN(tokens, model.checkpoint.tokenizer->Encode(text, {.add_bos = true}));
  if (tokens.size() < count) {
    return FieldError("--text", fmt::format("{}: {} tokens, --prompt-tokens is {}", flags.text, tokens.size(),
                                            flags.prompt_tokens));
  }
  tokens.resize(count);
  return tokens;
}

// Neurons as the model's are laid out; of models without bundles, as they would be.
SyntheticShape CrossoverShape(const LoadedModel& model) {
  const ModelConfig& config = model.checkpoint.config;
  const FeedForward& ffn = model.weights.layers.front().ffn;
  SyntheticShape shape{.d_model = config.d_model, .d_ff = config.d_ff, .gated = config.gated};
  if (ffn.layout == FfnLayout::kBundles) {
    shape.gate_type = ffn.bundles.gate_type;
    shape.up_type = ffn.bundles.up_type;
    shape.down_type = ffn.bundles.down_type;
  } else {
    const auto of_bundles = [](ElementType type) { return CanQuantize(type) ? type : ElementType::kQ8_0; };
    shape.gate_type = of_bundles(ffn.gate.type);
    shape.up_type = of_bundles(ffn.up.type);
    shape.down_type = of_bundles(ffn.down.type);
  }
  return shape;
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  if (path == "-") {
    fmt::print("{}\n", text);
    return absl::OkStatus();
  }
  std::ofstream file(path);
  file << text << '\n';
  file.close();
  if (!file) return FailedPrecondition("{}: cannot be written", path);
  return absl::OkStatus();
}

// Empty for a file that is not there.
absl::StatusOr<std::string> HashOf(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::string();
  TC_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return Sha256Hex(file.bytes());
}

absl::Status DescribeProfile(const ExecutionFlags& execution, const LoadedModel& model, BenchResult& result) {
  if (!model.plan && !model.predictors && (!model.thresholds || execution.finds_thresholds))
    return absl::OkStatus();
  const ProfileDirectory directory(execution.profile.empty() ? DefaultProfileDirectory(model.checkpoint.path)
                                                             : execution.profile);
  TC_ASSIGN_OR_RETURN(result.profile_sha256, HashOf(directory.profile()));
  if (model.predictors) {
    TC_ASSIGN_OR_RETURN(result.predictors_sha256, HashOf(directory.predictors()));
  }
  if (model.thresholds) {
    TC_ASSIGN_OR_RETURN(result.thresholds_sha256, HashOf(directory.thresholds()));
  }
  return absl::OkStatus();
}

// The CUDA devices that the model runs on.
std::string GpuNames(const LoadedModel& model) {
  const auto known = ListCudaDevices();
  std::string names;
  for (const Device* device : model.runner->devices()) {
    if (device->kind() != DeviceKind::kCuda || !known.ok()) continue;
    for (size_t i = 0; i < known->size(); ++i) {
      if (device->name() == fmt::format("cuda:{}", i))
        names += (names.empty() ? "" : ", ") + (*known)[i].name;
    }
  }
  return names;
}

// The same share of every input, from the prompt that is measured with: speed does not depend on which
// columns are left out.
absl::Status FindThresholds(double sparsity, std::span<const TokenId> prompt, LoadedModel& model) {
  TC_ASSIGN_OR_RETURN(
      ThresholdCalibration calibration,
      ThresholdCalibration::Create(*model.runner, {.method = ThresholdMethod::kUniform, .target = sparsity}));
  TC_RETURN_IF_ERROR(calibration.AddText(prompt, /*uncounted=*/1));
  TC_ASSIGN_OR_RETURN(model.thresholds,
                      calibration.Find(model.thresholds->model, [](int64_t /*layer*/) { return true; }));
  return model.runner->SetThresholds(*model.thresholds);
}

// What is measured of a model with one plan.
struct Run {
  std::string name;  // as given to --plans
  ExecutionFlags execution;
  std::vector<NeuronMode> modes;  // empty: all that the model and its profile have
};

// OBJECTIVE or OBJECTIVE:SIZE. Whole layers are the dense split, so they are measured in mode dense alone.
absl::StatusOr<Run> ParsePlan(const std::string& text, const Flags& flags,
                              const std::vector<NeuronMode>& modes) {
  Run run{.name = text, .execution = flags.execution, .modes = modes};
  const size_t colon = text.find(':');
  run.execution.objective = text.substr(0, colon);
  if (colon != std::string::npos) run.execution.gpu_memory = text.substr(colon + 1);
  const auto objective = ParseObjective(run.execution.objective);
  if (!objective.ok()) return FieldError("--plans", MessageOf(objective.status()));
  if (!run.execution.gpu_memory.empty()) {
    const absl::Status size = ParseSize(run.execution.gpu_memory).status();
    if (!size.ok()) return FieldError("--plans", MessageOf(size));
  }
  if (*objective == PlacementObjective::kLayers) {
    run.execution.mode = NameOf(NeuronMode::kDense);
    run.modes = {NeuronMode::kDense};
  }
  return run;
}

absl::StatusOr<std::vector<Run>> ReadRuns(const Flags& flags, const std::vector<NeuronMode>& modes) {
  if (flags.plans.empty()) return std::vector<Run>{{.execution = flags.execution, .modes = modes}};
  if (flags.execution.device != "host" && flags.execution.device != "cuda")
    return FieldError("--plans", "needs --device cuda or host");
  std::vector<Run> runs;
  for (const std::string& text : flags.plans) {
    TC_ASSIGN_OR_RETURN(Run run, ParsePlan(text, flags, modes));
    runs.push_back(std::move(run));
  }
  return runs;
}

absl::Status Measure(const Flags& flags, std::vector<NeuronMode> modes, LoadedModel& model,
                     BenchResult& result) {
  Transformer& runner = *model.runner;
  if (modes.empty()) modes = ModesOf(runner.mode());
  const int64_t needed = flags.prompt_tokens + flags.decode_tokens;
  if (needed > runner.context_length()) {
    return FieldError("--decode-tokens", fmt::format("prompt and decoded tokens are {}, the context is {}",
                                                     needed, runner.context_length()));
  }
  TC_ASSIGN_OR_RETURN(std::vector<TokenId> prompt, BenchPrompt(flags, model));
  if (flags.threshold_sparsity) TC_RETURN_IF_ERROR(FindThresholds(*flags.threshold_sparsity, prompt, model));
  // The emulated accelerator reads the same memory with a thread of its own.
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> readers,
                      ThreadTeam::Create(model.team->threads() + (model.emulated() ? 1 : 0)));
  TC_ASSIGN_OR_RETURN(const ReadBandwidthProbe reads, ReadBandwidthProbe::Create(*readers));
  TC_ASSIGN_OR_RETURN(result.figures, MeasureModes(runner, reads,
                                                   {.modes = std::move(modes),
                                                    .quality = result.quality,
                                                    .prompt = std::move(prompt),
                                                    .decode_tokens = flags.decode_tokens,
                                                    .repetitions = flags.repetitions}));
  if (flags.crossover) {
    result.crossover_shape = CrossoverShape(model);
    TC_ASSIGN_OR_RETURN(result.crossover, MeasureCrossover(model.cpu, {.shape = result.crossover_shape,
                                                                       .repetitions = flags.repetitions}));
  }
  return absl::OkStatus();
}

// The flags that say what becomes of a result.
absl::Status CheckReporting(const Flags& flags) {
  if (flags.fail_below == 0) return absl::OkStatus();
  if (flags.baseline.empty()) return FieldError("--fail-below", "needs --baseline");
  if (!(flags.fail_below > 0) || !std::isfinite(flags.fail_below))
    return FieldError("--fail-below", fmt::format("is {}, a ratio above 0 is needed", flags.fail_below));
  return absl::OkStatus();
}

// Where a result goes, and what it is compared with.
absl::Status Report(const Flags& flags, const ordered_json* baseline, const BenchRuns& results) {
  const bool for_people = flags.json_path != "-";
  if (for_people) results.PrintComparison();
  ordered_json json = results.Json();
  BenchComparison comparison;
  if (baseline != nullptr) {
    comparison = CompareBench(*baseline, flags.baseline, json);
    if (!comparison.hardware_differences.empty()) {
      fmt::print(stderr, "thermocline: {}: of other hardware ({})\n", flags.baseline,
                 fmt::join(comparison.hardware_differences, "; "));
    }
    if (for_people) PrintBaseline(comparison);
    json["baseline"] = ComparisonJson(comparison);
  }
  if (!flags.plot_path.empty())
    TC_RETURN_IF_ERROR(WriteText(flags.plot_path, RenderBenchPage(json, baseline)));
  if (!flags.json_path.empty())
    TC_RETURN_IF_ERROR(WriteText(flags.json_path, json.dump(for_people ? 1 : -1)));
  if (flags.fail_below > 0) return CheckRatios(comparison, flags.fail_below);
  return absl::OkStatus();
}

absl::Status Bench(Flags flags) {
  TC_RETURN_IF_ERROR(CheckAtLeastOne("--prompt-tokens", flags.prompt_tokens));
  TC_RETURN_IF_ERROR(CheckAtLeastOne("--decode-tokens", flags.decode_tokens));
  TC_RETURN_IF_ERROR(CheckAtLeastOne("--repetitions", flags.repetitions));
  TC_ASSIGN_OR_RETURN(const std::vector<NeuronMode> asked_for, ParseModes(flags.modes));
  const auto quality = ParseQuality(flags.quality);
  if (!quality.ok()) return FieldError("--quality", MessageOf(quality.status()));
  if (*quality == Quality::kExact)
    return FieldError("--quality",
                      "is exact, which is a mode of its own; of mode predicted it is balanced or fast");
  TC_RETURN_IF_ERROR(CheckReporting(flags));
  std::optional<ordered_json> baseline;
  if (!flags.baseline.empty()) {
    TC_ASSIGN_OR_RETURN(baseline, ReadBaseline(flags.baseline));
  }
  flags.execution.mode = flags.modes.empty() ? "auto" : NameOf(asked_for.back());
  if (flags.threshold_sparsity) {
    const double sparsity = *flags.threshold_sparsity;
    if (!(sparsity > 0 && sparsity <= kMostShare)) {
      return FieldError("--threshold-sparsity",
                        fmt::format("is {}, allowed are above 0 and at most {}", sparsity, kMostShare));
    }
    if (flags.modes.empty()) flags.execution.mode = NameOf(NeuronMode::kThreshold);
    if (flags.execution.mode != NameOf(NeuronMode::kThreshold))
      return FieldError("--threshold-sparsity", "is of mode threshold, which --modes does not have");
    flags.execution.finds_thresholds = true;
  }
  TC_ASSIGN_OR_RETURN(const std::vector<Run> runs,
                      ReadRuns(flags, flags.modes.empty() ? std::vector<NeuronMode>() : asked_for));
  BenchRuns results;
  std::optional<Checkpoint> checkpoint;  // the same in every run
  for (const Run& run : runs) {
    // One model at a time: a split takes its weights apart.
    TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model,
                        LoadModel(flags.model, run.execution, {}, std::move(checkpoint)));
    BenchResult result{.model = model.get(),
                       .cpu = ReadCpuInfo(),
                       .gpu = GpuNames(*model),
                       .prompt_tokens = flags.prompt_tokens,
                       .decode_tokens = flags.decode_tokens,
                       .quality = *quality};
    if (baseline) {
      TC_RETURN_IF_ERROR(CheckBaseline(*baseline, flags.baseline,
                                       {.model_sha256 = model->checkpoint.Sha256(),
                                        .prompt_tokens = flags.prompt_tokens,
                                        .decode_tokens = flags.decode_tokens,
                                        .plans = flags.plans}));
    }
    TC_RETURN_IF_ERROR(DescribeProfile(run.execution, *model, result));
    TC_RETURN_IF_ERROR(Measure(flags, run.modes, *model, result));
    results.Add(run.name, result);
    if (flags.json_path != "-") PrintBench(result);
    checkpoint = std::move(model->checkpoint);
  }
  return Report(flags, baseline ? &*baseline : nullptr, results);
}

}  // namespace

void AddBenchCommand(CLI::App& program, Command& command) {
  CLI::App* bench = program.add_subcommand(
      "bench", "Measure decoding in each mode, and prefill, beside the machine's memory bandwidth");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*bench, flags->model);
  AddExecutionFlags(*bench, flags->execution);
  bench->remove_option(bench->get_option("--mode"));
  bench
      ->add_option(
          "--modes", flags->modes,
          "comma-separated modes to measure beside dense: exact, predicted, or threshold alone; those of "
          "--mode auto if not given")
      ->delimiter(',');
  bench->add_option(
      "--threshold-sparsity", flags->threshold_sparsity,
      "measure mode threshold with this share of every input left out, by thresholds found from "
      "the prompt; the profile's thresholds if not given");
  bench
      ->add_option("--plans", flags->plans,
                   "comma-separated plans to make and measure in turn: OBJECTIVE or OBJECTIVE:SIZE, such as "
                   "layers:24GiB,latency:24GiB; layers is the dense split that the others are held against")
      ->delimiter(',');
  bench->add_option("--quality", flags->quality, "of mode predicted: balanced or fast")
      ->capture_default_str();
  bench->add_option("--text", flags->text,
                    "text file that the prompt is taken from; made-up tokens if not given");
  bench->add_option("--prompt-tokens", flags->prompt_tokens, "tokens of prefill")->capture_default_str();
  bench->add_option("--decode-tokens", flags->decode_tokens, "tokens decoded after it")
      ->capture_default_str();
  bench->add_option("--repetitions", flags->repetitions, "counted repetitions, after one warm-up")
      ->capture_default_str();
  bench->add_flag(
      "--crossover", flags->crossover,
      "time a feed-forward block of the model's shape too, sparse against dense, at 0 to 99 % sparsity");
  bench->add_option("--json", flags->json_path,
                    "write the result, with raw samples, to this file; - is standard output");
  bench->add_option("--baseline", flags->baseline,
                    "an earlier result of the same model and lengths (--json), to print each figure beside");
  bench->add_option(
      "--fail-below", flags->fail_below,
      "exit with 1 where a speed in tokens/s is below this part of the baseline's, such as 0.95");
  bench->add_option("--plot", flags->plot_path, "draw the result as one HTML page, beside the baseline");
  bench->callback([flags, &command] { command.action = [flags] { return Bench(*flags); }; });
}

}  // namespace thermocline
