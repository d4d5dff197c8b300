// TrainPredictors: from samples of activations to the predictors of all layers (docs/predictors.md).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "predictor/activation_samples.h"
#include "predictor/predictor_set.h"
#include "predictor/predictor_sizing.h"

namespace thermocline {

// Which kinds of predictor a layer may get.
enum class PredictorChoice {
  kMlp,
  kSign,
  kAuto,  // per layer whichever costs less at the target
};
std::string_view NameOf(PredictorChoice choice);  // "mlp", "sign", "auto"
// InvalidArgument listing the known names for any other.
absl::StatusOr<PredictorChoice> ParsePredictorChoice(std::string_view name);

struct TrainingOptions {
  PredictorChoice choice = PredictorChoice::kAuto;
  double target_recall = 0.95;  // of quality balanced; above 0, below 1
  double fast_recall = 0.90;    // of quality fast; above 0, at most target_recall
  int64_t most_bytes = 0;       // of all layers' predictors together; usually a tenth of the model's weights
  // Arithmetic that search and training may take, all layers together; two slow cores do 1e11 a second. A
  // model that would need more is trained on fewer passes.
  double most_flops = 2e14;
  uint64_t seed = 1;
  absl::Status Validate() const;
};

// One layer as it is trained.
struct LayerTraining {
  WeightView gate;  // (d_ff, d_model), for sign predictors
  NeuronBytes bytes;
};

struct TrainingProgress {
  int64_t layer = 0;
  int64_t n_layers = 0;
  std::string_view step;  // "sign", "size search", "training"
  double share_done = 0;  // of the whole, estimated
};

// layers: one for each of the model's. go_on is asked between steps of some milliseconds; when it says no the
// result is Cancelled. The same result for the same samples, options and instruction set, whatever the number
// of threads.
//
// InvalidArgument for options out of range, shapes that differ, and too few samples (both parts need at least
// 2 tokens); FailedPrecondition naming the least size when no predictors fit most_bytes.
absl::StatusOr<PredictorSet> TrainPredictors(const CpuContext& context, const ActivationSamples& samples,
                                             std::span<const LayerTraining> layers,
                                             const ModelIdentity& model, const TrainingOptions& options,
                                             const std::function<bool(const TrainingProgress&)>& go_on);

}  // namespace thermocline
