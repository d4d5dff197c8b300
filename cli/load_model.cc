// From flags to a model that can decode.
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_model.h"

#include <algorithm>

#include "core/cpu_info.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

// FieldError for anything but the modes this program decodes in.
absl::Status CheckMode(const std::string& mode) {
  if (mode == "auto" || mode == "dense") return absl::OkStatus();
  return FieldError("--mode", fmt::format("'{}' is not available; available are auto, dense", mode));
}

}  // namespace

void AddModelFlags(CLI::App& command, ModelFlags& flags) {
  command.add_option("MODEL", flags.path, "GGUF file or Hugging Face folder")->required();
  command.add_option("--threads", flags.threads, "CPU threads; 0 takes every usable CPU")
      ->capture_default_str();
  command
      .add_option("--context", flags.context,
                  fmt::format("tokens of prompt and completion together; 0 takes the model's, at most {}",
                              kDefaultContext))
      ->capture_default_str();
  command.add_option("--mode", flags.mode, "auto or dense (every neuron is computed)")->capture_default_str();
  command.add_option("--activation", flags.activation,
                     "relu or silu, where a GGUF file's architecture does not tell (ReLU-fied LLaMA models)");
}

absl::StatusOr<std::unique_ptr<ThreadTeam>> CreateTeam(int threads) {
  if (threads < 0) return FieldError("--threads", fmt::format("is {}, allowed are 0 and above", threads));
  auto team = ThreadTeam::Create(threads > 0 ? threads : ReadCpuInfo().usable_threads);
  if (!team.ok()) return FieldError("--threads", MessageOf(team.status()));
  return team;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const ModelFlags& flags) {
  TC_RETURN_IF_ERROR(CheckMode(flags.mode));
  CheckpointOptions options;
  if (!flags.activation.empty()) {
    const auto activation = ParseActivation(flags.activation);
    if (!activation.ok()) return FieldError("--activation", MessageOf(activation.status()));
    options.activation = *activation;
  }
  TC_ASSIGN_OR_RETURN(std::unique_ptr<ThreadTeam> team, CreateTeam(flags.threads));
  TC_ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(flags.path, options));

  auto model = std::make_unique<LoadedModel>(
      LoadedModel{.checkpoint = std::move(checkpoint), .team = std::move(team)});
  model->cpu = {.team = model->team.get(), .kernels = &BestKernels()};
  const ModelConfig& config = model->checkpoint.config;
  if (flags.context < 0 || flags.context > config.context_length) {
    return FieldError("--context", fmt::format("is {}, the model's context is {} tokens", flags.context,
                                               config.context_length));
  }
  TC_ASSIGN_OR_RETURN(model->weights, ModelWeights::Load(model->checkpoint, model->cpu));
  TransformerOptions transformer;
  transformer.context_tokens =
      flags.context > 0 ? flags.context : std::min(config.context_length, kDefaultContext);
  TC_ASSIGN_OR_RETURN(model->runner, Transformer::Create(config, model->weights, model->cpu, transformer));
  if (flags.mode == "auto") {
    fmt::print(stderr, "thermocline: mode dense (auto; every neuron is computed), {} threads, {} kernels\n",
               model->team->threads(), model->cpu.kernels->isa);
  }
  return model;
}

}  // namespace thermocline
