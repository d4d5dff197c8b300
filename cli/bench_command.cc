// thermocline bench: decode and prefill speed beside the memory bandwidth measured in the same run.
// SPDX-License-Identifier: Apache-2.0
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "cli/size_format.h"
#include "core/cpu_info.h"
#include "core/timer.h"
#include "profiler/bandwidth.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

struct Flags {
  ModelFlags model;
  std::vector<std::string> modes = {"dense"};
  int64_t prompt_tokens = 128;
  int64_t decode_tokens = 64;
  int repetitions = 5;
  std::string json_path;
};

struct Measurement {
  Samples prefill_tokens_per_second;
  Samples decode_tokens_per_second;
  double time_to_first_token_ms = 0;  // median
  int64_t bytes_per_token = 0;        // weights and, at the middle of the decoded stretch, keys and values
};

// The same tokens every time: speed does not depend on which they are in dense mode.
std::vector<TokenId> BenchPrompt(int64_t count, int64_t n_vocab) {
  std::vector<TokenId> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<TokenId>((1 + i * 7919) % n_vocab));
  return tokens;
}

absl::StatusOr<Measurement> Measure(const Flags& flags, LoadedModel& model) {
  Transformer& runner = *model.runner;
  const std::vector<TokenId> prompt = BenchPrompt(flags.prompt_tokens, runner.n_vocab());
  std::vector<float> logits(static_cast<size_t>(runner.n_vocab()));
  Measurement measurement;
  Samples first_token_ms;
  for (int repetition = -1; repetition < flags.repetitions;
       ++repetition) {  // the first, a warm-up, is not counted
    const Stopwatch prefill;
    for (int64_t position = 0; position < flags.prompt_tokens; position += runner.max_step_tokens()) {
      const int64_t count = std::min(runner.max_step_tokens(), flags.prompt_tokens - position);
      TC_RETURN_IF_ERROR(runner.Forward(
          {.tokens = std::span(prompt).subspan(static_cast<size_t>(position), static_cast<size_t>(count)),
           .first_position = position,
           .kind = StepKind::kPrefill},
          logits));
    }
    const double prefill_seconds = prefill.Seconds();
    const Stopwatch decode;
    for (int64_t i = 0; i < flags.decode_tokens; ++i) {
      const TokenId token = prompt[static_cast<size_t>(i % flags.prompt_tokens)];
      TC_RETURN_IF_ERROR(
          runner.Forward({.tokens = {&token, 1}, .first_position = flags.prompt_tokens + i}, logits));
    }
    const double decode_seconds = decode.Seconds();
    if (repetition < 0) continue;
    measurement.prefill_tokens_per_second.values.push_back(static_cast<double>(flags.prompt_tokens) /
                                                           prefill_seconds);
    measurement.decode_tokens_per_second.values.push_back(static_cast<double>(flags.decode_tokens) /
                                                          decode_seconds);
    first_token_ms.values.push_back(prefill_seconds * 1e3);
  }
  measurement.time_to_first_token_ms = first_token_ms.median();
  const int64_t middle = flags.prompt_tokens + flags.decode_tokens / 2;
  measurement.bytes_per_token =
      model.weights.bytes_per_token() +
      model.checkpoint.config.n_layers * KvCache::SizeBytes(model.checkpoint.config, middle);
  return measurement;
}

nlohmann::ordered_json ToJson(const Samples& samples) {
  return {{"median", samples.median()},
          {"min", samples.min()},
          {"max", samples.max()},
          {"samples", samples.values}};
}

// The type that holds most of the model's bytes.
std::string MainType(const Checkpoint& checkpoint) {
  return std::string(NameOf(checkpoint.tensors.TypesByBytes().front()));
}

absl::Status CheckFlags(const Flags& flags) {
  for (const std::string& mode : flags.modes) {
    if (mode != "dense")
      return FieldError("--modes", fmt::format("'{}' is not available; available is dense", mode));
  }
  if (flags.prompt_tokens < 1)
    return FieldError("--prompt-tokens", fmt::format("is {}, at least 1 is needed", flags.prompt_tokens));
  if (flags.decode_tokens < 1)
    return FieldError("--decode-tokens", fmt::format("is {}, at least 1 is needed", flags.decode_tokens));
  if (flags.repetitions < 1)
    return FieldError("--repetitions", fmt::format("is {}, at least 1 is needed", flags.repetitions));
  return absl::OkStatus();
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

absl::Status Bench(const Flags& flags) {
  TC_RETURN_IF_ERROR(CheckFlags(flags));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadDenseModel(flags.model));
  const int64_t needed = flags.prompt_tokens + flags.decode_tokens;
  if (needed > model->runner->context_length()) {
    return FieldError("--decode-tokens", fmt::format("prompt and decoded tokens are {}, the context is {}",
                                                     needed, model->runner->context_length()));
  }
  // Before and after, since the machine may be shared: the median of both is the peak.
  TC_ASSIGN_OR_RETURN(Samples bandwidth, MeasureReadBandwidth(*model->team));
  TC_ASSIGN_OR_RETURN(const Measurement dense, Measure(flags, *model));
  TC_ASSIGN_OR_RETURN(const Samples after, MeasureReadBandwidth(*model->team));
  bandwidth.values.insert(bandwidth.values.end(), after.values.begin(), after.values.end());

  const double decode = dense.decode_tokens_per_second.median();
  const double gb_per_second = decode * static_cast<double>(dense.bytes_per_token) * 1e-9;
  const double share = gb_per_second / bandwidth.median();
  const CpuInfo cpu = ReadCpuInfo();
  const nlohmann::ordered_json json = {
      {"version", THERMOCLINE_VERSION},
      {"hardware",
       {{"cpu", cpu.model_name},
        {"isa", model->cpu.kernels->isa},
        {"threads", model->team->threads()},
        {"last_level_cache_bytes", cpu.last_level_cache_bytes},
        {"read_gb_per_second", bandwidth.median()},
        {"read_gb_per_second_samples", bandwidth.values}}},
      {"model",
       {{"file", model->checkpoint.path},
        {"sha256", model->checkpoint.Sha256()},
        {"type", MainType(model->checkpoint)}}},
      {"prompt_tokens", flags.prompt_tokens},
      {"decode_tokens", flags.decode_tokens},
      {"modes",
       {{"dense",
         {{"decode_tokens_per_second", ToJson(dense.decode_tokens_per_second)},
          {"prefill_tokens_per_second", ToJson(dense.prefill_tokens_per_second)},
          {"time_to_first_token_ms", dense.time_to_first_token_ms},
          {"bytes_per_token", dense.bytes_per_token},
          {"gb_per_second", gb_per_second},
          {"share_of_peak", share},
          {"speedup", 1.0},  // dense is the measure of the other modes
          {"speedup_bound", 1.0}}}}},
      {"emulated", false}};
  if (!flags.json_path.empty())
    TC_RETURN_IF_ERROR(WriteText(flags.json_path, json.dump(flags.json_path == "-" ? -1 : 1)));
  if (flags.json_path == "-") return absl::OkStatus();

  fmt::print("{} | {} kernels, {} threads | reads {:.1f} GB/s\n", cpu.model_name, model->cpu.kernels->isa,
             model->team->threads(), bandwidth.median());
  fmt::print("{} | {} | {} a token\n\n", model->checkpoint.path, MainType(model->checkpoint),
             FormatBytes(dense.bytes_per_token));
  fmt::print("{:8} {:>16} {:>20} {:>10} {:>8} {:>14}\n", "mode", "decode tokens/s", "(min to max)", "GB/s",
             "of peak", "prefill tok/s");
  fmt::print("{:8} {:>16.1f} {:>20} {:>10.1f} {:>7.0f}% {:>14.1f}\n", "dense", decode,
             fmt::format("({:.1f} to {:.1f})", dense.decode_tokens_per_second.min(),
                         dense.decode_tokens_per_second.max()),
             gb_per_second, share * 100, dense.prefill_tokens_per_second.median());
  if (dense.bytes_per_token < cpu.last_level_cache_bytes) {
    fmt::print(
        "\nThe weights fit into the last-level cache ({}), so memory bandwidth does not bound this model.\n",
        FormatBytes(cpu.last_level_cache_bytes));
  }
  return absl::OkStatus();
}

}  // namespace

void AddBenchCommand(CLI::App& program, Command& command) {
  CLI::App* bench =
      program.add_subcommand("bench", "Measure decode and prefill beside the machine's memory bandwidth");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*bench, flags->model);
  bench->add_option("--modes", flags->modes, "comma-separated modes to measure")
      ->delimiter(',')
      ->capture_default_str();
  bench->add_option("--prompt-tokens", flags->prompt_tokens, "tokens of prefill")->capture_default_str();
  bench->add_option("--decode-tokens", flags->decode_tokens, "tokens decoded after it")
      ->capture_default_str();
  bench->add_option("--repetitions", flags->repetitions, "counted repetitions, after one warm-up")
      ->capture_default_str();
  bench->add_option("--json", flags->json_path,
                    "write the result, with raw samples, to this file; - is standard output");
  bench->callback([flags, &command] { command.action = [flags] { return Bench(*flags); }; });
}

}  // namespace thermocline
