// PredictorSet: what says, per layer, which neurons a token needs; and its file predictor.safetensors.
// SPDX-License-Identifier: Apache-2.0
//
// A layer's predictor gives every neuron a score from the feed-forward block's input x (d_model, after the
// norm); the neuron is marked when its score reaches the layer's threshold for the request's quality.
//   mlp   score = w2 * relu(w1 * x + b1) + b2, in logits
//   sign  score = columns of the gate row whose sign agrees with x minus those whose sign differs
//   (SparseInfer, 2024);
//         nothing to train and nothing to store but the thresholds
//
// The file: F32 biases, and for w1 and w2 I8 quants with F16 scales of 32 columns each (Q8_0 taken apart, so
// that any safetensors reader can use them). Everything else is JSON under the metadata key "thermocline".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"
#include "model/activation_profile.h"
#include "predictor/quality.h"

namespace thermocline {

enum class PredictorKind { kMlp, kSign };
std::string_view NameOf(PredictorKind kind);  // "mlp", "sign"

// On held-out tokens.
struct PredictorFigures {
  double recall = 0;     // share of active neurons that are marked
  double precision = 0;  // share of marked neurons that are active
  double marked = 0;     // share of neurons that are marked
};

// A matrix of Q8_0 blocks, row after row.
struct QuantizedMatrix {
  int64_t rows = 0;
  int64_t cols = 0;  // a multiple of 32
  std::vector<std::byte> blocks;
  WeightView view() const;
};

struct LayerPredictor {
  PredictorKind kind = PredictorKind::kSign;
  // Neurons that score at least this are marked. Finite; of sign predictors within [-d_model, d_model].
  double balanced_threshold = 0;
  double fast_threshold = 0;  // >= balanced_threshold
  PredictorFigures balanced;
  PredictorFigures fast;
  // kMlp
  int64_t hidden = 0;     // a multiple of 32
  QuantizedMatrix w1;     // (hidden, d_model)
  std::vector<float> b1;  // (hidden)
  QuantizedMatrix w2;     // (d_ff, hidden)
  std::vector<float> b2;  // (d_ff)

  // Bytes that one evaluation reads.
  int64_t SizeBytes(int64_t d_model, int64_t d_ff) const;
};

struct PredictorSet {
  ModelIdentity model;
  double target_recall = 0;
  double fast_recall = 0;
  std::vector<LayerPredictor> layers;  // index is the layer's number
};

// Written beside and renamed. The same bytes for the same predictors.
absl::Status WritePredictors(const PredictorSet& predictors, const std::string& path);

// FailedPrecondition naming path and both hashes, or both shapes, for another model's. InvalidArgument naming
// path, layer and field for missing or misshapen tensors, weights that are not finite, and thresholds out of
// range.
absl::StatusOr<PredictorSet> ReadPredictors(const std::string& path, const ModelIdentity& model);

}  // namespace thermocline
