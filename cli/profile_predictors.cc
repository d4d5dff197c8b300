// The predictors of a profile directory.
// SPDX-License-Identifier: Apache-2.0
#include "cli/profile_predictors.h"

#include <algorithm>
#include <filesystem>

#include "cli/progress_bar.h"
#include "profiler/planning.h"

namespace thermocline {
namespace {

bool HasPredictors(const ProfileDirectory& directory) {
  std::error_code ignored;
  return std::filesystem::exists(directory.predictors(), ignored);
}

int64_t HeldOutTokens(const PredictorFlags& flags) { return flags.tokens / 4; }

absl::StatusOr<PredictorSet> Train(const PredictorRun& run, PredictorChoice choice,
                                   const ActivationSamples& samples) {
  const LoadedModel& model = run.model;
  std::vector<LayerTraining> layers;
  for (const LayerWeights& layer : model.weights.layers) {
    const FeedForward& ffn = layer.ffn;
    layers.push_back({.gate = ffn.layout == FfnLayout::kBundles ? ffn.bundles.gate() : ffn.gate,
                      .bytes = NeuronBytesOf(ffn)});
  }
  ProgressBar bar(/*visible=*/true);
  return TrainPredictors(model.cpu, samples, layers, run.identity,
                         TrainingOptionsOf(run.flags, choice, model.checkpoint.total_bytes()),
                         [&](const TrainingProgress& progress) {
                           bar.Show(progress.share_done,
                                    fmt::format("predictors: layer {} of {}, {}", progress.layer + 1,
                                                progress.n_layers, progress.step));
                           return run.go_on();
                         });
}

}  // namespace

absl::StatusOr<ActivationSamples> MakeSamples(const PredictorRun& run) {
  return ActivationSamples::Create({.n_layers = run.identity.n_layers,
                                    .d_model = run.identity.d_model,
                                    .d_ff = run.identity.d_ff,
                                    .training_tokens = run.flags.tokens,
                                    .held_out_tokens = HeldOutTokens(run.flags),
                                    .memory_limit_bytes = *ParseSize(run.flags.memory),
                                    .spool_folder = run.directory.path});
}

absl::Status GatherSamples(const PredictorRun& run, const std::string& corpus, CountingOptions counting,
                           double threshold, ActivationSamples& samples) {
  counting.max_tokens = 0;
  counting.samples = &samples;
  ActivationProfile uncounted = EmptyProfile(run.model.checkpoint.config, run.identity.sha256, threshold);
  ProgressBar bar(/*visible=*/true);
  const int64_t held_out_tokens = HeldOutTokens(run.flags);
  return CountActivations(*run.model.runner, *run.model.checkpoint.tokenizer, corpus, counting, uncounted,
                          [&](const CountingProgress& /*progress*/) {
                            const int64_t training = samples.tokens(SamplePart::kTraining);
                            const int64_t held_out = samples.tokens(SamplePart::kHeldOut);
                            bar.Show(static_cast<double>(training + held_out) /
                                         static_cast<double>(run.flags.tokens + held_out_tokens),
                                     fmt::format("samples for predictors: {} tokens", training + held_out));
                            return run.go_on() && (training < run.flags.tokens || held_out < held_out_tokens);
                          });
}

absl::StatusOr<std::optional<PredictorSet>> TrainAndWrite(const PredictorRun& run, PredictorChoice choice,
                                                          const ActivationSamples& samples) {
  // Interrupted while gathering there may be too few samples to train with: no reason to do without.
  auto predictors = run.go_on() ? Train(run, choice, samples) : Cancelled("interrupted");
  if (absl::IsCancelled(predictors.status())) {
    return Cancelled("interrupted: the counts are kept in {}; --resume trains the predictors",
                     run.directory.profile());
  }
  const bool asked_for = !run.flags.kind.empty();
  if (!predictors.ok() && !asked_for &&
      (absl::IsInvalidArgument(predictors.status()) || absl::IsFailedPrecondition(predictors.status()))) {
    fmt::print(stderr, "thermocline: no predictors: {}\n", MessageOf(predictors.status()));
    TC_RETURN_IF_ERROR(RemovePredictors(run.directory, "an earlier run's"));
    return std::nullopt;
  }
  TC_RETURN_IF_ERROR(predictors.status());
  TC_RETURN_IF_ERROR(WritePredictors(*predictors, run.directory.predictors()));
  return *std::move(predictors);
}

absl::StatusOr<std::optional<PredictorSet>> TakePredictorsOf(const PredictorRun& run,
                                                             const std::vector<std::string>& directories) {
  for (const std::string& path : directories) {
    const ProfileDirectory part(path);
    if (!HasPredictors(part)) continue;
    TC_ASSIGN_OR_RETURN(PredictorSet predictors, ReadPredictors(part.predictors(), run.identity));
    TC_RETURN_IF_ERROR(WritePredictors(predictors, run.directory.predictors()));
    fmt::print(stderr, "thermocline: predictors are those of {}\n", path);
    return predictors;
  }
  TC_RETURN_IF_ERROR(RemovePredictors(run.directory, "an earlier run's"));
  return std::nullopt;
}

absl::Status RemovePredictors(const ProfileDirectory& directory, std::string_view reason) {
  if (!HasPredictors(directory)) return absl::OkStatus();
  std::error_code error;
  std::filesystem::remove(directory.predictors(), error);
  if (error) return FailedPrecondition("{}: {}", directory.predictors(), error.message());
  fmt::print(stderr, "thermocline: {} is removed: {}\n", directory.predictors(), reason);
  return absl::OkStatus();
}

absl::Status RemoveForeignPredictors(const ProfileDirectory& directory, const ModelIdentity& model) {
  if (!HasPredictors(directory)) return absl::OkStatus();
  const absl::Status status = ReadPredictors(directory.predictors(), model).status();
  if (status.ok()) return status;
  return RemovePredictors(directory, MessageOf(status));
}

}  // namespace thermocline
