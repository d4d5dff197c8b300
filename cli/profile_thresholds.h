// The thresholds of a profile directory: flags, finding them over a corpus, showing them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/load_model.h"
#include "cli/planning_flags.h"
#include "core/status.h"
#include "model/thresholds.h"

namespace thermocline {

struct ThresholdFlags {
  std::string method;      // empty: not asked for; "none": an earlier run's go
  double sparsity = 0.4;   // CalibrationOptions::target
  int64_t tokens = 8'192;  // of the corpus, from its beginning
  int64_t samples = 4;     // CalibrationOptions::samples
};

// --thresholds, --threshold-sparsity, --threshold-tokens, --threshold-samples.
void AddThresholdFlags(CLI::App& command, ThresholdFlags& flags);
// FieldError naming the flag.
absl::Status CheckThresholdFlags(const ThresholdFlags& flags, const std::string& corpus);

// What finding needs of one run of `thermocline profile`. Everything is borrowed.
struct ThresholdRun {
  const ThresholdFlags& flags;
  const std::string& corpus;
  LoadedModel& model;  // on the CPU alone
  const ModelIdentity& identity;
  const ProfileDirectory& directory;
  std::function<bool()> go_on;  // false: interrupted
};

// Finds the thresholds that the flags ask for and writes them to the directory; nothing where they ask for
// none. Thresholds that are not this model's are removed, and all where the flags say none, which is said on
// standard error. Cancelled when interrupted.
absl::StatusOr<std::optional<ThresholdSet>> FindThresholds(const ThresholdRun& run);

// As `inspect --json` has them: file's fields, and `skipped` over all layers.
nlohmann::ordered_json ThresholdsJson(const ThresholdSet& thresholds);
void PrintThresholds(const nlohmann::ordered_json& json);

}  // namespace thermocline
