// What is planted in a synthetic model, read back from its file: frequencies, and predictors that know them.
// SPDX-License-Identifier: Apache-2.0
//
// The weights in the file were rounded, so nothing is taken from the plan but the subspace: each gate row's
// part in it, its mean and what is left over are measured on the rounded weights, and so are the moments of
// the rounded embeddings. Residual streams are taken for the embeddings, which they nearly are.
#pragma once

#include <string>

#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "model/activation_profile.h"
#include "model/checkpoint.h"
#include "model/synthetic_model.h"
#include "predictor/predictor_set.h"

namespace thermocline {

// Tokens that the profile's counts stand for; a tenth of them is called held out.
inline constexpr int64_t kPlantedTokens = 1'000'000;

struct PlantedAnalysis {
  // Counts: the frequencies of normal gates times the tokens, rounded. No footprint, no corpus.
  ActivationProfile profile;
  // Two hidden units of opposite sign for each dimension of the subspace, so that the sum over both is
  // linear. Thresholds are set for recall 0.95 and 0.90 on sampled embeddings, the figures are those of other
  // ones.
  PredictorSet predictors;
};

// checkpoint: what `model` wrote; sha256: its hash. ResourceExhausted when memory is short.
absl::StatusOr<PlantedAnalysis> AnalysePlanted(const SyntheticModel& model, const Checkpoint& checkpoint,
                                               const std::string& sha256, const CpuContext& context);

}  // namespace thermocline
