// ThresholdCalibration: finds a model's thresholds from text that passes through it.
// SPDX-License-Identifier: Apache-2.0
//
// Passes fill a histogram of magnitudes for every input of every layer (ThresholdSite). A share that is to be
// left out of an input is then a quantile of its histogram.
//
// kUniform takes the target as the share of every input, kCats as that of the activated gates. kTeal
// allocates greedily (threshold_allocation.h). The error that a candidate causes is measured, not modelled:
// some hundred tokens at the start of a text go through the layer as it is and with the candidate's
// thresholds, keys and values included, and the mean over the tokens of |difference|^2 / |output|^2 counts.
// The first token is left out of it: its output is by orders of magnitude larger than the others'. Every
// layer is judged on the dense model's residual stream. Among layers errors count by how far they move the
// model's next tokens (KL divergence), measured once with each layer at the target alone.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/status.h"
#include "model/thresholds.h"
#include "profiler/magnitude_histogram.h"
#include "scheduler/transformer.h"

namespace thermocline {

struct CalibrationOptions {
  ThresholdMethod method = ThresholdMethod::kTeal;
  double target = 0.4;          // above 0, at most kMostShare
  int64_t sample_tokens = 512;  // of each sample that kTeal's candidates are judged by
  int64_t samples = 4;          // starts of as many texts, the longest
  int steps = 16;               // of kTeal to the target, with a candidate for every input of every layer
};

class ThresholdCalibration {
 public:
  // The transformer is on the CPU alone and must outlive the calibration. InvalidArgument for a target out of
  // range.
  static absl::StatusOr<ThresholdCalibration> Create(Transformer& transformer,
                                                     const CalibrationOptions& options);

  // Runs the tokens as a context of their own, of which the first `uncounted` (a BOS) go into no histogram:
  // decoding never computes them. At most the transformer's context. InvalidArgument when the model's output
  // is not finite.
  absl::Status AddText(std::span<const TokenId> tokens, int64_t uncounted);
  int64_t tokens() const { return tokens_; }  // counted so far

  // From what was added, at least two tokens (InvalidArgument). go_on: asked before every layer; Cancelled
  // when it says no.
  absl::StatusOr<ThresholdSet> Find(const ModelIdentity& model,
                                    const std::function<bool(int64_t layer)>& go_on);

 private:
  class Judge;
  using LayerHistograms = std::array<MagnitudeHistogram, kThresholdSites>;

  ThresholdCalibration(Transformer& transformer, const CalibrationOptions& options);
  void AddSample(std::span<const TokenId> tokens);
  LayerThresholds AtShares(size_t layer, std::span<const double> shares) const;
  absl::Status AllocateAll(const std::function<bool(int64_t layer)>& go_on,
                           std::vector<LayerThresholds>& layers);

  Transformer& transformer_;
  CalibrationOptions options_;
  std::vector<LayerHistograms> histograms_;
  int64_t tokens_ = 0;
  std::vector<std::vector<TokenId>> samples_;
};

}  // namespace thermocline
