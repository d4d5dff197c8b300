// thermocline profile: count which neurons fire, measure the machine, plan, draw the report.
// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/load_model.h"
#include "cli/planning_flags.h"
#include "cli/predictor_flags.h"
#include "cli/profile_predictors.h"
#include "cli/profile_thresholds.h"
#include "cli/progress_bar.h"
#include "core/replace_file.h"
#include "profiler/activation_counter.h"
#include "profiler/activity_rule.h"
#include "profiler/hardware_probe.h"
#include "profiler/mpi_reduce.h"
#include "profiler/skewness.h"
#include "scheduler/gpu_device.h"
#include "scheduler/request.h"

namespace thermocline {
namespace {

struct Flags {
  ModelFlags model;
  PlanningFlags planning;
  PredictorFlags predictor;
  ThresholdFlags thresholds;
  std::string corpus;
  std::string out;
  CountingOptions counting;
  std::optional<double> threshold;
  std::vector<std::string> merge;  // profile directories
  bool resume = false;
  bool mpi = false;
  bool json = false;
};

volatile std::sig_atomic_t interrupted = 0;

void Show(const CountingProgress& progress, ProgressBar& bar) {
  const double share = progress.corpus_bytes > 0 ? static_cast<double>(progress.consumed_bytes) /
                                                       static_cast<double>(progress.corpus_bytes)
                                                 : 1.0;
  bar.Show(share, fmt::format("{} tokens  {:.0f} tokens/s", progress.tokens,
                              static_cast<double>(progress.tokens) / bar.seconds()));
}

// The profile to go on with: an empty one, or what an earlier run kept.
absl::StatusOr<ActivationProfile> StartOrResume(const Flags& flags, const LoadedModel& model,
                                                const std::string& sha256, const ProfileDirectory& directory,
                                                bool first_rank) {
  ActivationProfile profile = EmptyProfile(model.checkpoint.config, sha256, flags.threshold.value_or(0));
  profile.footprint = FootprintOf(model.checkpoint.config, model.weights);
  if (!flags.resume) return profile;
  TC_ASSIGN_OR_RETURN(ActivationProfile kept, ReadProfile(directory.profile()));
  TC_RETURN_IF_ERROR(CheckBelongs(kept, IdentityOf(model.checkpoint, sha256), directory.profile()));
  if (first_rank) return kept;
  profile.corpus = kept.corpus;  // the first rank holds the earlier counts
  return profile;
}

// Counts over the corpus and keeps what was counted, an interrupted run's part too. Under MPI the first rank
// gets the sum and, where there are any, the samples of its own share.
absl::StatusOr<ActivationProfile> Count(const Flags& flags, LoadedModel& model, const std::string& sha256,
                                        const ProfileDirectory& directory, const MpiSession* mpi,
                                        ActivationSamples* samples) {
  const bool first_rank = mpi == nullptr || mpi->rank() == 0;
  CountingOptions counting = flags.counting;
  counting.samples = first_rank ? samples : nullptr;
  if (mpi != nullptr) {
    counting.rank = mpi->rank();
    counting.ranks = mpi->size();
  }
  auto profile = StartOrResume(flags, model, sha256, directory, first_rank);
  absl::Status counted = profile.status();
  if (counted.ok()) {
    ProgressBar bar(/*visible=*/first_rank);
    counted = CountActivations(*model.runner, *model.checkpoint.tokenizer, flags.corpus, counting, *profile,
                               [&](const CountingProgress& progress) {
                                 Show(progress, bar);
                                 return interrupted == 0;
                               });
  }
  if (mpi != nullptr) {
    ActivationProfile none;
    counted = mpi->ReduceProfile(counted, profile.ok() ? *profile : none);
  }
  TC_RETURN_IF_ERROR(profile.status());
  if (!first_rank) {
    TC_RETURN_IF_ERROR(counted);
    return profile;
  }
  TC_RETURN_IF_ERROR(counted);  // a bad corpus overwrites nothing; an interrupt is no error
  TC_RETURN_IF_ERROR(WriteProfile(*profile, directory.profile()));
  if (interrupted != 0) {
    return Cancelled("interrupted: {} tokens are kept in {}; --resume goes on",
                     profile->profiled_tokens + profile->held_out_tokens, directory.profile());
  }
  return profile;
}

absl::StatusOr<ActivationProfile> Merge(const Flags& flags, const LoadedModel& model,
                                        const std::string& sha256, const ProfileDirectory& directory) {
  std::optional<ActivationProfile> sum;
  for (const std::string& part : flags.merge) {
    const std::string path = ProfileDirectory(part).profile();
    TC_ASSIGN_OR_RETURN(ActivationProfile profile, ReadProfile(path));
    TC_RETURN_IF_ERROR(CheckBelongs(profile, IdentityOf(model.checkpoint, sha256), path));
    if (!sum) {
      sum = std::move(profile);
      continue;
    }
    TC_ASSIGN_OR_RETURN(sum, MergeProfiles(*sum, profile));
  }
  TC_RETURN_IF_ERROR(WriteProfile(*sum, directory.profile()));
  return *std::move(sum);
}

// This machine's, measured now, or that of --hardware; either way kept in the directory.
absl::StatusOr<HardwareProfile> Hardware(const PlanningFlags& flags, int threads,
                                         const ProfileDirectory& directory) {
  HardwareProfile hardware;
  if (!flags.hardware.empty()) {
    TC_ASSIGN_OR_RETURN(hardware, ReadHardware(flags.hardware));
  } else {
    ProbeOptions probe;
    probe.threads = threads;
    if (flags.device == "host") probe.accelerators = {DeviceKind::kHost};
    if (flags.device == "cuda" || flags.device == "auto") probe.accelerators = {DeviceKind::kCuda};
    auto measured = ProbeHardware(probe);
    if (flags.device == "auto" &&
        (absl::IsUnavailable(measured.status()) || absl::IsUnimplemented(measured.status()))) {
      probe.accelerators.clear();
      measured = ProbeHardware(probe);
    }
    TC_ASSIGN_OR_RETURN(hardware, std::move(measured));
  }
  TC_RETURN_IF_ERROR(WriteHardware(hardware, directory.hardware()));
  return hardware;
}

// Budgets around the plan's own, for the report's curve.
absl::StatusOr<std::vector<SweepPoint>> Curve(const SolvedPlan& solved) {
  if (solved.problem.accelerators.empty()) return std::vector<SweepPoint>();
  PlacementProblem problem = solved.problem;
  problem.time_limit_seconds = 2;
  std::vector<int64_t> budgets;
  for (int eighths = 1; eighths <= 16; ++eighths)
    budgets.push_back(problem.accelerators[0].budget_bytes * eighths / 8);
  return SweepBudgets(std::move(problem), budgets);
}

// The directory's predictors after counting: trained from samples, taken from merged profiles, or none.
absl::StatusOr<std::optional<PredictorSet>> Predictors(const Flags& flags, const PredictorRun& run,
                                                       std::optional<PredictorChoice> choice,
                                                       double threshold,
                                                       std::optional<ActivationSamples> samples) {
  TC_RETURN_IF_ERROR(RemoveForeignPredictors(run.directory, run.identity));
  if (!choice) {
    TC_RETURN_IF_ERROR(RemovePredictors(run.directory, "no predictors are asked for"));
    return std::nullopt;
  }
  if (!flags.merge.empty()) return TakePredictorsOf(run, flags.merge);
  if (!samples) {
    fmt::print(stderr, "thermocline: resumed: predictors are trained from the beginning of {}\n",
               flags.corpus);
    TC_ASSIGN_OR_RETURN(samples, MakeSamples(run));
    TC_RETURN_IF_ERROR(GatherSamples(run, flags.corpus, flags.counting, threshold, *samples));
  }
  return TrainAndWrite(run, *choice, *samples);
}

nlohmann::ordered_json ProfileJson(const ActivationProfile& profile, const Plan& plan,
                                   const PredictorSet* predictors, int64_t weight_bytes) {
  nlohmann::ordered_json layers = nlohmann::ordered_json::array();
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    const LayerActivations& layer = profile.layers[l];
    const Skewness skewness = MeasureSkewness(layer.profiled.active, profile.profiled_tokens);
    const Skewness held_out = MeasureSkewness(layer.held_out.active, profile.held_out_tokens);
    layers.push_back(
        {{"sparsity", skewness.sparsity},
         {"share_for_50", skewness.share_for_50},
         {"share_for_80", skewness.share_for_80},
         {"share_for_90", skewness.share_for_90},
         {"share_for_99", skewness.share_for_99},
         {"gini", skewness.gini},
         {"skewness", skewness.third_moment},
         {"held_out_sparsity", held_out.sparsity},
         {"held_out_share_for_80", held_out.share_for_80},
         {"predictor", predictors != nullptr ? PredictorJson(predictors->layers[l], predictors->model)
                                             : nlohmann::ordered_json()}});
  }
  nlohmann::ordered_json summary;
  if (predictors != nullptr) {
    const int64_t bytes = PredictorBytes(*predictors);
    summary = {{"target_recall", predictors->target_recall},
               {"fast_recall", predictors->fast_recall},
               {"bytes", bytes},
               {"share_of_weights", static_cast<double>(bytes) / static_cast<double>(weight_bytes)}};
  }
  const ActivityRule activity = DescribeActivity(profile);
  return {{"model_sha256", profile.model_sha256},
          {"tokens", profile.profiled_tokens},
          {"held_out_tokens", profile.held_out_tokens},
          {"activity",
           {{"rule", activity.name}, {"threshold", profile.threshold}, {"active_when", activity.text}}},
          {"layers", layers},
          {"predictors", summary},
          {"plan", PlanJson(plan)}};
}

void PrintProfile(const ActivationProfile& profile, const ProfileDirectory& directory) {
  fmt::print("{} tokens counted, {} held out; a neuron is active when {}\n\n", profile.profiled_tokens,
             profile.held_out_tokens, DescribeActivity(profile).text);
  fmt::print("{:>5} {:>10} {:>18} {:>8} {:>10}\n", "layer", "sparsity", "neurons for 80 %", "Gini",
             "skewness");
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    const Skewness skewness = MeasureSkewness(profile.layers[l].profiled.active, profile.profiled_tokens);
    fmt::print("{:>5} {:>9.1f}% {:>17.1f}% {:>8.3f} {:>10.2f}\n", l, 100 * skewness.sparsity,
               100 * skewness.share_for_80, skewness.gini, skewness.third_moment);
  }
  fmt::print("\nreport: {}\n", directory.report());
}

absl::Status CheckFlags(const Flags& flags) {
  TC_RETURN_IF_ERROR(ReadPlanningFlags(flags.planning).status());
  TC_RETURN_IF_ERROR(CheckPredictorFlags(flags.predictor));
  TC_RETURN_IF_ERROR(CheckThresholdFlags(flags.thresholds, flags.corpus));
  if (flags.corpus.empty() == flags.merge.empty())
    return FieldError("--corpus", "give either a corpus or --merge");
  if (flags.resume && !flags.merge.empty()) return FieldError("--resume", "does not go with --merge");
  if (flags.threshold && !(*flags.threshold >= 0)) {
    return FieldError("--threshold", fmt::format("is {}, allowed are 0 and above", *flags.threshold));
  }
  if (flags.counting.held_out_every < 0 || flags.counting.held_out_every == 1) {
    return FieldError("--held-out-every", fmt::format("is {}, allowed are 0 (none) and 2 and above",
                                                      flags.counting.held_out_every));
  }
  if (flags.counting.max_tokens < 0) {
    return FieldError("--max-tokens",
                      fmt::format("is {}, allowed are 0 and above", flags.counting.max_tokens));
  }
  return absl::OkStatus();
}

// Without the GPU where its kernels lack what the model needs.
absl::StatusOr<PlanningFlags> PlanningFor(const ModelConfig& config, PlanningFlags planning) {
  const absl::Status gpu = GpuDevice::CheckSupported(config);
  if (gpu.ok() || planning.device == "host" || planning.device == "none") return planning;
  if (planning.device == "cuda")
    return FieldError("--device", fmt::format("is cuda, which cannot be used: {}", MessageOf(gpu)));
  fmt::print(stderr, "thermocline: everything is planned for the CPU: {}\n", MessageOf(gpu));
  planning.device = "none";
  return planning;
}

absl::Status Profile(const Flags& flags) {
  TC_RETURN_IF_ERROR(CheckFlags(flags));
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<LoadedModel> model, LoadDenseModel(flags.model));
  if (const std::string& kind = flags.predictor.kind;
      !kind.empty() && kind != "none" && !model->checkpoint.config.has_silent_neurons()) {
    return FieldError("--predictor",
                      fmt::format("is {}, but every token reads every neuron of this model", kind));
  }
  TC_ASSIGN_OR_RETURN(const PlanningFlags planning, PlanningFor(model->checkpoint.config, flags.planning));
  const ProfileDirectory directory(flags.out.empty() ? DefaultProfileDirectory(flags.model.path) : flags.out);
  std::error_code error;
  std::filesystem::create_directories(directory.path, error);
  if (error) return FailedPrecondition("{}: {}", directory.path, error.message());

  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);

  const std::string sha256 = model->checkpoint.Sha256();
  const ModelIdentity identity = IdentityOf(model->checkpoint, sha256);
  const PredictorRun run{
      .flags = flags.predictor, .model = *model, .identity = identity, .directory = directory, .go_on = [] {
        return interrupted == 0;
      }};
  const std::optional<PredictorChoice> choice =
      ChoiceOf(flags.predictor, model->checkpoint.config.has_silent_neurons());
  std::optional<ActivationSamples> samples;
  ActivationProfile profile;
  if (flags.merge.empty()) {
    std::unique_ptr<MpiSession> mpi;
    if (flags.mpi) {
      TC_ASSIGN_OR_RETURN(mpi, MpiSession::Start());
    }
    if (choice && !flags.resume && (mpi == nullptr || mpi->rank() == 0)) {
      TC_ASSIGN_OR_RETURN(samples, MakeSamples(run));
    }
    TC_ASSIGN_OR_RETURN(profile,
                        Count(flags, *model, sha256, directory, mpi.get(), samples ? &*samples : nullptr));
    if (mpi != nullptr && mpi->rank() != 0) return absl::OkStatus();
  } else {
    TC_ASSIGN_OR_RETURN(profile, Merge(flags, *model, sha256, directory));
  }
  TC_ASSIGN_OR_RETURN(const std::optional<PredictorSet> predictors,
                      Predictors(flags, run, choice, profile.threshold, std::move(samples)));
  TC_ASSIGN_OR_RETURN(const std::optional<ThresholdSet> thresholds,
                      FindThresholds({.flags = flags.thresholds,
                                      .corpus = flags.corpus,
                                      .model = *model,
                                      .identity = identity,
                                      .directory = directory,
                                      .go_on = [] { return interrupted == 0; }}));
  const PredictorSet* const some_predictors = predictors ? &*predictors : nullptr;
  TC_ASSIGN_OR_RETURN(const HardwareProfile hardware,
                      Hardware(flags.planning, model->team->threads(), directory));
  TC_ASSIGN_OR_RETURN(const SolvedPlan solved,
                      SolveFor(profile, directory.profile(), hardware, planning, some_predictors));
  TC_RETURN_IF_ERROR(WritePlan(solved.plan, directory.plan()));
  TC_ASSIGN_OR_RETURN(std::vector<SweepPoint> sweep, Curve(solved));
  const int64_t weight_bytes = model->checkpoint.total_bytes();
  // Merged profiles' predictors were trained for a limit that is not known here.
  const int64_t limit_bytes =
      flags.merge.empty()
          ? TrainingOptionsOf(flags.predictor, PredictorChoice::kAuto, weight_bytes).most_bytes
          : 0;
  const std::string report =
      RenderReport({.model_name = std::filesystem::path(flags.model.path).filename().string(),
                    .profile = &profile,
                    .plan = &solved.plan,
                    .hardware = &hardware,
                    .sweep = std::move(sweep),
                    .predictors = some_predictors,
                    .predictor_limit_bytes = limit_bytes,
                    .neuron_bytes = NeuronBytesOf(model->weights.layers.front().ffn)});
  TC_RETURN_IF_ERROR(ReplaceFile(directory.report(), report));
  if (flags.json) {
    nlohmann::ordered_json json = ProfileJson(profile, solved.plan, some_predictors, weight_bytes);
    json["thresholds"] = thresholds ? ThresholdsJson(*thresholds) : nlohmann::ordered_json();
    fmt::print("{}\n", json.dump());
  } else {
    PrintProfile(profile, directory);
    if (predictors) PrintPredictors(*predictors);
    if (thresholds) PrintThresholds(ThresholdsJson(*thresholds));
    PrintPlan(solved.plan);
  }
  return absl::OkStatus();
}

}  // namespace

void AddProfileCommand(CLI::App& program, Command& command) {
  CLI::App* profile = program.add_subcommand(
      "profile", "Count which neurons fire over a corpus and plan where everything lives");
  auto flags = std::make_shared<Flags>();
  AddModelFlags(*profile, flags->model);
  profile->add_option("--corpus", flags->corpus,
                      "text, or JSONL with a field \"text\" when the name ends in .jsonl");
  profile->add_option("--out", flags->out, "profile directory; MODEL.thermocline");
  profile
      ->add_option("--held-out-every", flags->counting.held_out_every,
                   "every n-th window judges the plan instead; 0: none")
      ->capture_default_str();
  profile
      ->add_option("--max-tokens", flags->counting.max_tokens,
                   "stop after that many tokens; 0: the whole corpus")
      ->capture_default_str();
  profile->add_option("--threshold", flags->threshold,
                      "a neuron is active above this magnitude; 0: when its activation is not exactly zero");
  profile->add_option("--merge", flags->merge,
                      "profile directories of the same model, to add up instead of counting");
  profile->add_flag("--mpi", flags->mpi, "share the corpus among the processes that mpirun started");
  profile->add_flag("--resume", flags->resume, "go on where an interrupted run stopped");
  AddPredictorFlags(*profile, flags->predictor);
  AddThresholdFlags(*profile, flags->thresholds);
  AddPlanningFlags(*profile, flags->planning);
  profile->add_flag("--json", flags->json, "print one JSON object");
  profile->callback([flags, &command] {
    flags->planning.kv_type = flags->model.kv_type;
    command.action = [flags] { return Profile(*flags); };
  });
}

}  // namespace thermocline
