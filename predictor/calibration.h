// Calibration: from scores on held-out tokens to a predictor's thresholds and figures.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "predictor/activation_samples.h"
#include "predictor/mlp.h"
#include "predictor/predictor_set.h"
#include "predictor/score_histogram.h"

namespace thermocline {

// The held-out tokens of a layer in two halves that are different text as long as no token was sampled away:
// thresholds are chosen on one, figures are reported from the other.
struct HeldOutHalves {
  LayerSamples calibration;
  LayerSamples judgement;
};
HeldOutHalves Halve(const LayerSamples& held_out);

// Of the misses that a recall allows, the share that calibration leaves to fresh text.
inline constexpr double kReservedMisses = 0.1;
// The recall to calibrate for so that fresh text keeps `recall`.
constexpr double WithReserve(double recall) { return recall + kReservedMisses * (1 - recall); }

// The Mlp with w1 and w2 in Q8_0, without thresholds. d_model and hidden are multiples of 32.
LayerPredictor Quantize(const Mlp& mlp);

// Scores of the predictor as it will run: quantised weights, or the signs of gate (d_ff, d_model). At most
// most_tokens tokens, evenly spread. Cancelled when go_on says no.
absl::StatusOr<ScoreHistogram> ScoreSamples(const CpuContext& context, const LayerPredictor& predictor,
                                            const WeightView& gate, const LayerSamples& samples,
                                            int64_t most_tokens, const std::function<bool()>& go_on);

// Sets thresholds and figures. A threshold is the one of the calibration half for the recall with its
// reserve, or, where that misses the recall itself on the other half, the lower one that keeps it there too.
void Calibrate(const ScoreHistogram& calibration, const ScoreHistogram& judgement, double target_recall,
               double fast_recall, int64_t d_model, LayerPredictor& predictor);

}  // namespace thermocline
