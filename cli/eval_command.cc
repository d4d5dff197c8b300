// thermocline eval: perplexity of a text.
// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "core/mapped_file.h"
#include "core/timer.h"
#include "scheduler/evaluation.h"

namespace thermocline {
namespace {

struct Flags {
  ModelFlags model;
  std::string text;
  bool json = false;
};

constexpr int64_t kTextLimitBytes = int64_t{1} << 30;

absl::Status Eval(const Flags& flags) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(flags.text, kTextLimitBytes));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadModel(flags.model));
  const Tokenizer& tokenizer = *model->checkpoint.tokenizer;
  TC_ASSIGN_OR_RETURN(const std::vector<TokenId> tokens, tokenizer.Encode(text, {.add_bos = false}));
  const std::optional<TokenId> bos = tokenizer.adds_bos() ? tokenizer.bos() : std::nullopt;
  const Stopwatch watch;
  auto result = Evaluate(*model->runner, tokens, bos, model->runner->context_length());
  if (!result.ok()) return InvalidArgument("{}: {}", flags.text, MessageOf(result.status()));
  const double tokens_per_second = static_cast<double>(result->scored_tokens) / watch.Seconds();
  if (flags.json) {
    // Dense is what the other modes are compared with, so its distance from dense is none by definition.
    const nlohmann::ordered_json json = {{"mode", "dense"},
                                         {"tokens", result->scored_tokens},
                                         {"context", model->runner->context_length()},
                                         {"perplexity", result->perplexity()},
                                         {"kl_mean", 0.0},
                                         {"kl_p99", 0.0},
                                         {"top1_agreement", 1.0},
                                         {"tokens_per_second", tokens_per_second}};
    fmt::print("{}\n", json.dump());
  } else {
    fmt::print("perplexity {:.4f} over {} tokens in windows of {} (dense, {:.0f} tokens/s)\n",
               result->perplexity(), result->scored_tokens, model->runner->context_length(),
               tokens_per_second);
  }
  return absl::OkStatus();
}

}  // namespace

void AddEvalCommand(CLI::App& program, Command& command) {
  CLI::App* eval =
      program.add_subcommand("eval", "Perplexity of a text, in windows of --context tokens without overlap");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*eval, flags->model);
  eval->add_option("--text", flags->text, "text file")->required();
  eval->add_flag("--json", flags->json, "print one JSON object");
  eval->callback([flags, &command] { command.action = [flags] { return Eval(*flags); }; });
}

}  // namespace thermocline
