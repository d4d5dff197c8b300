// thermocline eval: perplexity of a text, and how far a mode is from dense.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "core/mapped_file.h"
#include "core/timer.h"
#include "scheduler/evaluation.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

struct Flags {
  ModelFlags model;
  ExecutionFlags execution;
  std::string quality;  // empty: balanced in modes predicted and threshold, else exact
  std::string text;
  bool json = false;
};

constexpr int64_t kTextLimitBytes = int64_t{1} << 30;

absl::StatusOr<Quality> QualityOf(const Flags& flags, const Transformer& runner) {
  if (flags.quality.empty()) return DefaultQuality(runner.predicts());
  const auto quality = ParseQuality(flags.quality);
  if (!quality.ok()) return FieldError("--quality", MessageOf(quality.status()));
  if (*quality != Quality::kExact && !runner.predicts()) {
    return FieldError("--quality",
                      fmt::format("is {}, which needs mode predicted or threshold; the mode is {}",
                                  flags.quality, NameOf(runner.mode())));
  }
  return quality;
}

absl::Status Eval(const Flags& flags) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(flags.text, kTextLimitBytes));
  ExecutionFlags execution = flags.execution;
  execution.keep_host_copy = true;  // dense, which it is compared with, runs on the CPU
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadModel(flags.model, execution));
  Transformer& runner = *model->runner;
  TC_ASSIGN_OR_RETURN(const Quality quality, QualityOf(flags, runner));
  const Tokenizer& tokenizer = *model->checkpoint.tokenizer;
  TC_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, tokenizer.Encode(text, {.add_bos = false}));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Transformer> dense,
                      Transformer::Create(model->checkpoint.config, model->weights, model->cpu,
                                          {.context_tokens = runner.context_length(),
                                           .kv_type = model->kv_type,
                                           .pack_weights = !flags.model.no_pack}));
  const Stopwatch watch;
  const auto result = Evaluate(runner, tokens,
                               {.window_tokens = runner.context_length(),
                                .bos = tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt,
                                .quality = quality,
                                .reference = dense.get()});
  if (!result.ok()) return InvalidArgument("{}: {}", flags.text, MessageOf(result.status()));
  const double tokens_per_second = static_cast<double>(result->scored_tokens) / watch.Seconds();
  if (flags.json) {
    const nlohmann::ordered_json json = {{"mode", NameOf(runner.mode())},
                                         {"quality", NameOf(quality)},
                                         {"tokens", result->scored_tokens},
                                         {"context", runner.context_length()},
                                         {"perplexity", result->perplexity()},
                                         {"kl_mean", result->kl_mean},
                                         {"kl_p99", result->kl_p99},
                                         {"top1_agreement", result->top1_agreement},
                                         {"tokens_per_second", tokens_per_second}};
    fmt::print("{}\n", json.dump());
  } else {
    fmt::print("perplexity {:.4f} over {} tokens in windows of {} ({}, quality {})\n", result->perplexity(),
               result->scored_tokens, runner.context_length(), NameOf(runner.mode()), NameOf(quality));
    fmt::print(
        "against dense: KL divergence {:.3g} nats on average, {:.3g} at the 99th percentile; the same "
        "likeliest token for {:.2f} %\n",
        result->kl_mean, result->kl_p99, 100 * result->top1_agreement);
  }
  return absl::OkStatus();
}

}  // namespace

void AddEvalCommand(CLI::App& program, Command& command) {
  CLI::App* eval = program.add_subcommand(
      "eval", "Perplexity of a text, in windows of --context tokens without overlap, beside dense");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*eval, flags->model);
  AddExecutionFlags(*eval, flags->execution);
  eval->add_option("--quality", flags->quality, "exact, balanced or fast; of modes predicted and threshold");
  eval->add_option("--text", flags->text, "text file")->required();
  eval->add_flag("--json", flags->json, "print one JSON object");
  eval->callback([flags, &command] { command.action = [flags] { return Eval(*flags); }; });
}

}  // namespace thermocline
