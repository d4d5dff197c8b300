// Sizes of predictors: per layer the one of least predicted cost, all together within a limit.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/functional/function_ref.h>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/status.h"
#include "predictor/predictor_set.h"

namespace thermocline {

// What reading a layer's neurons costs.
struct NeuronBytes {
  int64_t gate = 0;     // one gate row (ungated: FC1 row)
  int64_t up_down = 0;  // one up and one down row (ungated: the FC2 column alone)
};

// What the search knows of a layer before it tries anything.
struct SizingLayer {
  int64_t d_model = 0;
  int64_t d_ff = 0;
  double sparsity = 0;  // share of (token, neuron) pairs that are silent
  double gini = 0;      // of the neurons' counts: 0 all equal, towards 1 one neuron makes all
  NeuronBytes bytes;
  std::optional<double> sign_cost;  // of the sign predictor, where the layer may have one
  bool mlp = true;                  // whether the layer may have an Mlp
};

struct SizedLayer {
  PredictorKind kind = PredictorKind::kMlp;
  int64_t hidden = 0;  // 0 for sign predictors
  int64_t bytes = 0;
};

// Bytes that a layer and token read: the predictor, the gate rows of marked neurons, and the up and down rows
// of those among them that fire.
double PredictedCost(const PredictorFigures& figures, int64_t predictor_bytes, int64_t d_ff,
                     const NeuronBytes& bytes);

// Bytes of a layer's predictor; hidden 0 stands for a sign predictor.
int64_t PredictorBytes(int64_t hidden, int64_t d_model, int64_t d_ff);

// The hidden size to begin with.
int64_t BaselineHidden(const SizingLayer& layer);

// Predicted cost of a layer with a hidden size, found by a short training.
using TryHidden = absl::FunctionRef<absl::StatusOr<double>(size_t layer, int64_t hidden)>;

// Per layer climbs from the baseline to the size of least cost among its neighbours (multiples of 32), then
// shrinks where a saved byte costs least until all predictors take at most most_bytes. No size of a layer is
// tried twice. A layer that may have either kind gets a sign predictor here only where that costs less by so
// much that longer training cannot change it. FailedPrecondition naming the least size when nothing fits.
absl::StatusOr<std::vector<SizedLayer>> SizePredictors(std::span<const SizingLayer> layers,
                                                       int64_t most_bytes, TryHidden try_hidden);

}  // namespace thermocline
