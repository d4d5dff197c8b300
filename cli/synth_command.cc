// thermocline synth: a model with planted sparsity for speed tests, its profile and its predictors.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "cli/planning_flags.h"
#include "cli/size_format.h"
#include "core/checked.h"
#include "core/timer.h"
#include "model/synthetic_model.h"
#include "predictor/planted_analysis.h"
#include "profiler/skewness.h"
#include "scheduler/load_devices.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

struct Flags {
  std::string out;
  std::string shape;
  std::string type = "q4_0";
  SyntheticOptions options;
  int threads = 0;
  bool json = false;
};

absl::Status FlagError(std::string_view flag, const absl::Status& status) {
  return status.ok() ? status : FieldError(flag, MessageOf(status));
}

absl::StatusOr<SyntheticOptions> ReadOptions(const Flags& flags) {
  SyntheticOptions options = flags.options;
  const auto shape = ParseSyntheticShape(flags.shape);
  TC_RETURN_IF_ERROR(FlagError("--shape", shape.status()));
  options.shape = *shape;
  const auto type = ParseElementType(flags.type);
  TC_RETURN_IF_ERROR(FlagError("--type", type.status()));
  options.type = *type;
  TC_RETURN_IF_ERROR(FlagError("--type", CheckSyntheticType(options)));
  TC_RETURN_IF_ERROR(FlagError("--shape", CheckSyntheticShape(options)));
  TC_RETURN_IF_ERROR(FlagError("--sparsity", CheckSyntheticSparsity(options)));
  TC_RETURN_IF_ERROR(FlagError("--skew", CheckSyntheticSkew(options)));
  TC_RETURN_IF_ERROR(FlagError("--predictability", CheckSyntheticPredictability(options)));
  TC_RETURN_IF_ERROR(FlagError("--rank", CheckSyntheticRank(options)));
  return options;
}

// What ModelWeights will take, without laying out the weights.
absl::StatusOr<ModelFootprint> FootprintOf(const ModelConfig& config, ElementType type) {
  TC_ASSIGN_OR_RETURN(const int64_t row, RowBytes(type, config.d_model));
  TC_ASSIGN_OR_RETURN(const BundleView bundles, BundleLayout(config.d_ff, config.d_model, type, type, type));
  constexpr auto kFloatBytes = static_cast<int64_t>(sizeof(float));
  const int64_t kv_width = config.n_kv_heads * config.d_head;
  ModelFootprint footprint{
      .neuron_bytes = bundles.stride_bytes,
      .attention_bytes = 2 * (config.d_model + kv_width) * row + 2 * config.d_model * kFloatBytes,
      .kv_bytes_per_token = 2 * kv_width * kFloatBytes,
      .head_bytes = config.n_vocab * row + config.d_model * kFloatBytes,
      .context_tokens = config.context_length,
      .scratch_bytes = AcceleratorScratchBytes(DeviceKind::kHost, config, config.context_length)};
  // A GPU's kernels know every type that is written here.
  footprint.gpu = {
      .neuron_bytes = footprint.neuron_bytes,
      .attention_bytes = footprint.attention_bytes,
      .head_bytes = footprint.head_bytes,
      .scratch_bytes = AcceleratorScratchBytes(DeviceKind::kCuda, config, config.context_length)};
  return footprint;
}

absl::Status WriteProfileDirectory(const PlantedAnalysis& analysis, const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return FailedPrecondition("{}: cannot be created: {}", path, error.message());
  const ProfileDirectory directory(path);
  TC_RETURN_IF_ERROR(WriteProfile(analysis.profile, directory.profile()));
  return WritePredictors(analysis.predictors, directory.predictors());
}

// Means over the layers.
nlohmann::ordered_json Describe(const Flags& flags, const PlantedAnalysis& analysis, int64_t file_bytes,
                                double seconds) {
  const ActivationProfile& profile = analysis.profile;
  const auto n_layers = static_cast<double>(profile.layers.size());
  double sparsity = 0, share = 0, recall = 0, precision = 0, marked = 0;
  int64_t predictor_bytes = 0;
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    const Skewness skewness = MeasureSkewness(profile.layers[l].profiled.active, profile.profiled_tokens);
    const LayerPredictor& predictor = analysis.predictors.layers[l];
    sparsity += skewness.sparsity / n_layers;
    share += skewness.share_for_80 / n_layers;
    recall += predictor.balanced.recall / n_layers;
    precision += predictor.balanced.precision / n_layers;
    marked += predictor.balanced.marked / n_layers;
    predictor_bytes += predictor.SizeBytes(profile.d_model, profile.d_ff);
  }
  return {{"file", flags.out},
          {"sha256", profile.model_sha256},
          {"bytes", file_bytes},
          {"sparsity", sparsity},
          {"share_for_80", share},
          {"predictor",
           {{"hidden", analysis.predictors.layers.front().hidden},
            {"recall", recall},
            {"precision", precision},
            {"marked", marked},
            {"bytes", predictor_bytes}}},
          {"seconds", seconds}};
}

void PrintForPeople(const nlohmann::ordered_json& json) {
  const nlohmann::ordered_json& predictor = json["predictor"];
  fmt::print("{}: {} in {:.0f} s; sparsity {:.3f}, {:.3f} of the neurons make 80 % of the activations\n",
             json["file"].get<std::string>(), FormatBytes(json["bytes"].get<int64_t>()),
             json["seconds"].get<double>(), json["sparsity"].get<double>(),
             json["share_for_80"].get<double>());
  fmt::print("predictors: hidden {}, {}; recall {:.3f}, precision {:.3f}, {:.3f} of the neurons marked\n",
             predictor["hidden"].get<int64_t>(), FormatBytes(predictor["bytes"].get<int64_t>()),
             predictor["recall"].get<double>(), predictor["precision"].get<double>(),
             predictor["marked"].get<double>());
}

absl::Status Synth(const Flags& flags) {
  const Stopwatch watch;
  TC_ASSIGN_OR_RETURN(const SyntheticOptions options, ReadOptions(flags));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<ThreadTeam> team, CreateTeam({.threads = flags.threads}));
  TC_ASSIGN_OR_RETURN(const SyntheticModel model, SyntheticModel::Create(options));
  TC_RETURN_IF_ERROR(model.Write(flags.out, *team));
  TC_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(flags.out));
  const CpuContext cpu{.team = team.get(), .kernels = &BestKernels()};
  TC_ASSIGN_OR_RETURN(PlantedAnalysis analysis, AnalysePlanted(model, checkpoint, checkpoint.Sha256(), cpu));
  TC_ASSIGN_OR_RETURN(analysis.profile.footprint, FootprintOf(model.config(), options.type));
  TC_RETURN_IF_ERROR(WriteProfileDirectory(analysis, flags.out + ".thermocline"));
  const nlohmann::ordered_json json = Describe(flags, analysis, checkpoint.total_bytes(), watch.Seconds());
  if (flags.json) {
    fmt::print("{}\n", json.dump());
  } else {
    PrintForPeople(json);
  }
  return absl::OkStatus();
}

}  // namespace

void AddSynthCommand(CLI::App& program, Command& command) {
  CLI::App* synth = program.add_subcommand(
      "synth", "Write a model with planted sparsity for speed tests, and OUT.thermocline/ with its profile");
  auto flags = std::make_shared<Flags>();
  synth->add_option("OUT", flags->out, "GGUF file to write")->required();
  synth
      ->add_option("--shape", flags->shape,
                   "7b, 13b, 30b, 70b, tiny, or layers=,d_model=,d_ff=,heads=,kv-heads=,vocab=")
      ->required();
  synth->add_option("--type", flags->type, "q4_0, q8_0, f16, bf16 or f32")->capture_default_str();
  SyntheticOptions& options = flags->options;
  synth->add_option("--sparsity", options.sparsity, "share of neurons that are silent for a token")
      ->capture_default_str();
  synth->add_option("--skew", options.skew, "share of a layer's neurons that make 80 % of its activations")
      ->capture_default_str();
  synth
      ->add_option("--predictability", options.predictability,
                   "share of a gate's variance that the planted predictors see")
      ->capture_default_str();
  synth
      ->add_option(
          "--rank", options.rank,
          "dimensions of the planted subspace, half of the predictors' hidden size; 0 takes d_model / "
          "32, from 16 to 128")
      ->capture_default_str();
  synth->add_option("--seed", options.seed, "the same options and seed give the same file")
      ->capture_default_str();
  synth->add_option("--threads", flags->threads, "CPU threads; 0 takes every usable CPU")
      ->capture_default_str();
  synth->add_flag("--json", flags->json, "print one JSON object");
  synth->callback([flags, &command] { command.action = [flags] { return Synth(*flags); }; });
}

}  // namespace thermocline
