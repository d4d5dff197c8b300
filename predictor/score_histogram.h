// ScoreHistogram: scores of active and of silent neurons, from which thresholds and their figures are read.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/matrix.h"
#include "predictor/predictor_set.h"

namespace thermocline {

// Bins hold the floats that share their upper 20 bits, so that an edge is within a 2048th of any score and
// memory does not grow with the tokens. Thresholds are edges of bins: the figures at them are exact.
class ScoreHistogram {
 public:
  ScoreHistogram();

  // scores: (n_tokens, d_ff), none NaN; active: (n_tokens, BitWords(d_ff)).
  void Add(MatrixView<const float> scores, MatrixView<const uint64_t> active);

  // The largest threshold that marks at least `recall` (above 0, at most 1) of the active neurons added;
  // where none was active, one above all scores.
  float ThresholdFor(double recall) const;

  // What a threshold that ThresholdFor gave (of any histogram) marks here. Recall is 1 where nothing was
  // active, precision 1 where nothing is marked.
  PredictorFigures FiguresAt(float threshold) const;

 private:
  std::vector<uint64_t> active_, silent_;  // by bin
  uint64_t n_active_ = 0, n_silent_ = 0;
};

}  // namespace thermocline
