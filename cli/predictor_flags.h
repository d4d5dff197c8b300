// Flags of predictor training, and predictors as JSON and as a table.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/status.h"
#include "model/activation_profile.h"
#include "predictor/predictor_set.h"
#include "predictor/train_predictors.h"

namespace thermocline {

struct PredictorFlags {
  std::string kind;        // empty: auto where the activation has true zeros, else none
  double recall = 0.95;    // of quality balanced
  double budget = 0.10;    // most bytes, as a share of the model's weights
  int64_t tokens = 16384;  // to train with; a quarter as many judge
  std::string memory = "1GiB";
  uint64_t seed = 1;
};

void AddPredictorFlags(CLI::App& command, PredictorFlags& flags);
// FieldError naming the flag.
absl::Status CheckPredictorFlags(const PredictorFlags& flags);

// What --predictor means for a model; nothing: no predictors. The flags have been checked.
std::optional<PredictorChoice> ChoiceOf(const PredictorFlags& flags, bool has_true_zeros);
// weight_bytes: of the whole model.
TrainingOptions TrainingOptionsOf(const PredictorFlags& flags, PredictorChoice choice, int64_t weight_bytes);

// The object `predictor` of a layer in the command line's contract, and the same with the fast quality's
// figures and thresholds beside it.
nlohmann::ordered_json PredictorJson(const LayerPredictor& layer, const ModelIdentity& model);
int64_t PredictorBytes(const PredictorSet& predictors);  // of all layers
void PrintPredictors(const PredictorSet& predictors);

}  // namespace thermocline
