// The predictors of a profile directory: gathering samples, training, taking over, clearing away.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/load_model.h"
#include "cli/planning_flags.h"
#include "cli/predictor_flags.h"
#include "core/status.h"
#include "predictor/activation_samples.h"
#include "predictor/predictor_set.h"
#include "profiler/activation_counter.h"

namespace thermocline {

// What all steps need of one run of `thermocline profile`. Everything is borrowed.
struct PredictorRun {
  const PredictorFlags& flags;
  LoadedModel& model;
  const ModelIdentity& identity;
  const ProfileDirectory& directory;
  std::function<bool()> go_on;  // false: interrupted
};

// Room for the samples that the flags ask for, in memory or in a file in the directory.
absl::StatusOr<ActivationSamples> MakeSamples(const PredictorRun& run);

// Fills `samples` from the corpus's beginning without counting, until there are enough.
absl::Status GatherSamples(const PredictorRun& run, const std::string& corpus, CountingOptions counting,
                           double threshold, ActivationSamples& samples);

// Trains and writes the directory's predictors. Cancelled, saying what is kept, when interrupted. Where the
// samples or the budget allow no predictors: the reason as an error when --predictor was given, else on
// standard error and nothing.
absl::StatusOr<std::optional<PredictorSet>> TrainAndWrite(const PredictorRun& run, PredictorChoice choice,
                                                          const ActivationSamples& samples);

// Of the first of the profile directories that has predictors of this model, written to the directory;
// nothing where none has. An error for predictors that cannot be read.
absl::StatusOr<std::optional<PredictorSet>> TakePredictorsOf(const PredictorRun& run,
                                                             const std::vector<std::string>& directories);

// Removes predictors that an earlier run left, saying so on standard error: all of them, or those that are
// not this model's.
absl::Status RemovePredictors(const ProfileDirectory& directory, std::string_view reason);
absl::Status RemoveForeignPredictors(const ProfileDirectory& directory, const ModelIdentity& model);

}  // namespace thermocline
