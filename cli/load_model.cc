// From flags to a model that can decode.
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_model.h"

#include <algorithm>
#include <filesystem>

#include "cli/execution_choice.h"
#include "core/cpu_info.h"
#include "scheduler/kv_pages.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

// Everything but weights and runner.
absl::StatusOr<std::unique_ptr<LoadedModel>> OpenModel(const ModelFlags& flags, const TeamFlags& threads,
                                                       std::optional<Checkpoint> opened = std::nullopt) {
  CheckpointOptions options;
  if (!flags.activation.empty()) {
    const auto activation = ParseActivation(flags.activation);
    if (!activation.ok()) return FieldError("--activation", MessageOf(activation.status()));
    options.activation = *activation;
  }
  const KernelTable* kernels = &BestKernels();
  if (!flags.isa.empty()) {
    const auto chosen = KernelsFor(flags.isa);
    if (!chosen.ok()) return FieldError("--isa", MessageOf(chosen.status()));
    kernels = *chosen;
  }
  const auto kv_type = ParseKvType(flags.kv_type);
  if (!kv_type.ok()) return FieldError("--kv-type", MessageOf(kv_type.status()));
  TC_ASSIGN_OR_RETURN(std::unique_ptr<ThreadTeam> team, CreateTeam(threads));
  if (!opened) {
    TC_ASSIGN_OR_RETURN(opened, Checkpoint::Open(flags.path, options));
  }
  auto model =
      std::make_unique<LoadedModel>(LoadedModel{.checkpoint = *std::move(opened), .team = std::move(team)});
  model->cpu = {.team = model->team.get(), .kernels = kernels};
  model->kv_type = *kv_type;
  const ModelConfig& config = model->checkpoint.config;
  if (const absl::Status fits = CheckKvType(*kv_type, config); !fits.ok())
    return FieldError("--kv-type", MessageOf(fits));
  if (flags.context < 0 || flags.context > config.context_length) {
    return FieldError("--context", fmt::format("is {}, the model's context is {} tokens", flags.context,
                                               config.context_length));
  }
  return model;
}

int64_t ContextTokens(const ModelFlags& flags, const ModelConfig& config) {
  return flags.context > 0 ? flags.context : std::min(config.context_length, kDefaultContext);
}

// Of all sequences. Memory is looked at when the weights are loaded, so that it is what they leave.
absl::StatusOr<int64_t> KvTokens(const KvCacheFlags& flags, const ModelConfig& config, ElementType type,
                                 int64_t context_tokens, const std::optional<Plan>& plan) {
  constexpr int64_t kContexts = 8, kShareOfMemory = 4;
  if (!flags.shared) return context_tokens;
  if (flags.tokens > 0) {
    if (flags.tokens >= context_tokens) return flags.tokens;
    return FieldError("--kv-tokens",
                      fmt::format("is {}, a context of {} tokens must fit", flags.tokens, context_tokens));
  }
  const int64_t token_bytes = KvTokenBytes(config, type, plan ? &*plan : nullptr);
  if (plan &&
      std::ranges::any_of(plan->layers, [](const auto& layer) { return layer.kv_cache_device > 0; })) {
    int64_t planned_bytes = 0;
    for (const auto& device : plan->devices) planned_bytes += device.kv_cache_bytes;
    return std::max(context_tokens, planned_bytes / token_bytes);
  }
  const int64_t fitting = ReadCpuInfo().available_memory_bytes / kShareOfMemory / token_bytes;
  return std::max(context_tokens, std::min(kContexts * context_tokens, fitting));
}

// The emulated accelerator is a thread too: with --threads 0 it gets one of the CPUs.
TeamFlags TeamBeside(const ExecutionFlags& execution, TeamFlags flags) {
  if (flags.threads == 0 && execution.device == "host") flags.threads = std::max(1, UsableCpus() - 1);
  return flags;
}

// Which feed-forward matrices are not of the file's type in memory.
void SayWhatWasStoredAgain(const LoadedModel& model) {
  const auto& tensors = model.checkpoint.tensors;
  const FeedForward& ffn = model.weights.layers.front().ffn;
  if (ffn.layout != FfnLayout::kBundles) return;
  const auto down = tensors.Matrix(model.checkpoint.names.layer(0).down, model.checkpoint.config.d_model,
                                   model.checkpoint.config.d_ff);
  if (!down.ok() || down->type == ffn.bundles.down_type) return;
  fmt::print(stderr, "thermocline: down projections are held by neuron as {}; the file has {}\n",
             NameOf(ffn.bundles.down_type), NameOf(down->type));
}

void SayWhatWasChosen(const LoadedModel& model, const std::string& why) {
  std::string devices;
  for (const Device* device : model.runner->devices()) {
    if (device->kind() != DeviceKind::kCpu)
      devices += fmt::format(", {} ({} neurons{})", device->name(), model.plan->hot_neurons(),
                             device->kind() == DeviceKind::kHost ? ", emulated" : "");
  }
  fmt::print(stderr, "thermocline: mode {} ({}), {} threads, {} kernels{}\n", NameOf(model.runner->mode()),
             why, model.team->threads(), model.cpu.kernels->isa, devices);
}

}  // namespace

void AddTeamFlags(CLI::App& command, TeamFlags& flags) {
  command.add_option("--threads", flags.threads, "CPU threads; 0 takes every usable CPU")
      ->capture_default_str();
  command
      .add_option("--team", flags.kind,
                  "how they wait for work: spin (look for a while, then sleep) or tbb (an arena of oneTBB)")
      ->capture_default_str();
  command
      .add_option("--numa", flags.numa,
                  "on machines of several memory nodes: distribute (threads are kept on nodes, weights lie "
                  "with the thread that reads them), interleave (pages on the nodes in turn), or off")
      ->capture_default_str();
}

void AddModelFlags(CLI::App& command, ModelFlags& flags) {
  command.add_option("MODEL", flags.path, "GGUF file or Hugging Face folder")->required();
  AddTeamFlags(command, flags.team);
  command
      .add_option("--context", flags.context,
                  fmt::format("tokens of prompt and completion together; 0 takes the model's, at most {}",
                              kDefaultContext))
      ->capture_default_str();
  command.add_option("--activation", flags.activation,
                     "relu, silu or fatrelu, where a GGUF file does not tell (ReLU-fied LLaMA models)");
  command.add_option("--isa", flags.isa,
                     "instruction set of the CPU's kernels, as `doctor` lists them; the best by default");
  AddKvTypeFlag(command, flags.kv_type);
  command.add_flag(
      "--no-pack", flags.no_pack,
      "multiply matrices as they lie in the file, with activations in F32: slower, but without a copy in "
      "memory and without rounding activations to 8 bits (16 beside F16 and BF16)");
}

void AddKvTypeFlag(CLI::App& command, std::string& kv_type) {
  command
      .add_option(
          "--kv-type", kv_type,
          "type of keys and values in the CPU's memory: f16, f32, or q8_0 (half of f16); GPUs hold f32")
      ->capture_default_str();
}

void AddExecutionFlags(CLI::App& command, ExecutionFlags& flags) {
  command
      .add_option("--mode", flags.mode,
                  "dense (every neuron), exact (only what fires; the same answers), predicted (only what the "
                  "profile's predictors mark), threshold (without inputs of products below the profile's "
                  "thresholds, for models whose neurons are never silent; on the CPU, with the weights in "
                  "memory once more, by columns), or auto (one of the first three)")
      ->capture_default_str();
  command.add_option("--profile", flags.profile,
                     "profile directory with predictors and plan; MODEL.thermocline where that exists");
  command
      .add_option(
          "--device", flags.device,
          "where hot neurons live: auto (as the plan says), cuda, host (an emulated accelerator), none")
      ->capture_default_str();
  command.add_option(
      "--gpu-memory", flags.gpu_memory,
      "budget of the accelerator, such as 24GiB; another than the plan's is planned for again");
  command.add_flag("--keep-host-copy", flags.keep_host_copy,
                   "hot neurons stay in the CPU's memory besides the accelerator's");
}

absl::StatusOr<std::unique_ptr<ThreadTeam>> CreateTeam(const TeamFlags& flags) {
  if (flags.threads < 0)
    return FieldError("--threads", fmt::format("is {}, allowed are 0 and above", flags.threads));
  TeamOptions options;
  const auto kind = ParseTeamKind(flags.kind);
  if (!kind.ok()) return FieldError("--team", MessageOf(kind.status()));
  options.kind = *kind;
  const auto numa = ParseNumaPolicy(flags.numa);
  if (!numa.ok()) return FieldError("--numa", MessageOf(numa.status()));
  std::vector<NumaNode> nodes = ReadNumaNodes();
  if (*numa == NumaPolicy::kInterleave) {
    const absl::Status status = InterleaveMemory(nodes);
    if (!status.ok()) return FieldError("--numa", MessageOf(status));
  }
  if (*numa == NumaPolicy::kDistribute && nodes.size() > 1) options.nodes = std::move(nodes);
  auto team = ThreadTeam::Create(flags.threads > 0 ? flags.threads : UsableCpus(), options);
  if (!team.ok()) return FieldError("--threads", MessageOf(team.status()));
  return team;
}

namespace {

// A folder may be given with a slash at its end.
std::filesystem::path WithoutSlash(const std::string& model_path) {
  const std::filesystem::path path = std::filesystem::path(model_path).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

}  // namespace

std::string FileNameOf(const std::string& model_path) { return WithoutSlash(model_path).filename().string(); }

std::string DefaultProfileDirectory(const std::string& model_path) {
  return WithoutSlash(model_path).string() + ".thermocline";
}

ModelIdentity IdentityOf(const Checkpoint& checkpoint, std::string sha256) {
  const ModelConfig& config = checkpoint.config;
  return {.sha256 = std::move(sha256),
          .n_layers = config.n_layers,
          .d_model = config.d_model,
          .d_ff = config.d_ff};
}

bool LoadedModel::emulated() const {
  return std::ranges::any_of(runner->devices(),
                             [](const Device* device) { return device->kind() == DeviceKind::kHost; });
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadModel(const ModelFlags& flags,
                                                       const ExecutionFlags& execution,
                                                       const KvCacheFlags& cache,
                                                       std::optional<Checkpoint> opened) {
  TC_RETURN_IF_ERROR(CheckExecutionFlags(execution));
  TC_ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model,
                      OpenModel(flags, TeamBeside(execution, flags.team), std::move(opened)));
  const ModelConfig& config = model->checkpoint.config;
  const int64_t context_tokens = ContextTokens(flags, config);
  TC_ASSIGN_OR_RETURN(ExecutionChoice choice,
                      ChooseExecution(flags, execution, model->checkpoint, context_tokens));
  model->plan = std::move(choice.plan);
  model->predictors = std::move(choice.predictors);
  const bool by_neuron = model->plan && model->plan->splits_layers();
  model->thresholds = std::move(choice.thresholds);
  WeightOptions weights{.ffn_layout = by_neuron ? FfnLayout::kBundles : FfnLayout::kAuto};
  // Where no step leaves neurons out, packed matrices are faster than bundles.
  const bool always_dense = choice.mode == NeuronMode::kDense && !model->plan && !flags.no_pack;
  if (model->thresholds || always_dense) weights.ffn_layout = FfnLayout::kMatrices;
  TC_ASSIGN_OR_RETURN(model->weights, ModelWeights::Load(model->checkpoint, model->cpu, weights));
  TC_ASSIGN_OR_RETURN(const int64_t kv_tokens,
                      KvTokens(cache, config, model->kv_type, context_tokens, model->plan));
  TC_ASSIGN_OR_RETURN(model->runner,
                      Transformer::Create(config, model->weights, model->cpu,
                                          {.context_tokens = context_tokens,
                                           .kv_tokens = kv_tokens,
                                           .kv_type = model->kv_type,
                                           .pack_weights = !flags.no_pack,
                                           .mode = choice.mode,
                                           .predictors = model->predictors ? &*model->predictors : nullptr,
                                           .thresholds = model->thresholds ? &*model->thresholds : nullptr,
                                           .plan = model->plan ? &*model->plan : nullptr,
                                           .keep_host_copy = execution.keep_host_copy}));
  SayWhatWasStoredAgain(*model);
  SayWhatWasChosen(*model, choice.why);
  return model;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> LoadDenseModel(const ModelFlags& flags) {
  TC_ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, OpenModel(flags, flags.team));
  const ModelConfig& config = model->checkpoint.config;
  TC_ASSIGN_OR_RETURN(model->weights, ModelWeights::Load(model->checkpoint, model->cpu));
  TC_ASSIGN_OR_RETURN(model->runner, Transformer::Create(config, model->weights, model->cpu,
                                                         {.context_tokens = ContextTokens(flags, config),
                                                          .kv_type = model->kv_type,
                                                          .pack_weights = !flags.no_pack}));
  return model;
}

}  // namespace thermocline
