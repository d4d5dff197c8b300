// Mlp: a layer's predictor in F32 as it is trained, its scores, its loss and the loss's gradient.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"

namespace thermocline {

struct MlpShape {
  int64_t d_model = 0;
  int64_t hidden = 0;
  int64_t d_ff = 0;
  int64_t parameters() const { return hidden * (d_model + d_ff + 1) + d_ff; }
};

// scores = w2 * relu(w1 * x + b1) + b2, in logits. All parameters lie in one row, so that an optimiser sees a
// vector; the matrices are views of it.
class Mlp {
 public:
  // All zero.
  static absl::StatusOr<Mlp> Create(const MlpShape& shape);

  const MlpShape& shape() const { return shape_; }
  std::span<float> parameters() { return storage_.row(0); }
  std::span<const float> parameters() const { return storage_.row(0); }
  MatrixView<float> w1() { return {storage_.data(), shape_.hidden, shape_.d_model, shape_.d_model}; }
  MatrixView<float> w2() { return {storage_.data() + W2Offset(), shape_.d_ff, shape_.hidden, shape_.hidden}; }
  std::span<float> b1() { return parameters().subspan(B1Offset(), static_cast<size_t>(shape_.hidden)); }
  std::span<float> b2() { return parameters().subspan(B1Offset() + b1().size()); }
  MatrixView<const float> w1() const { return const_cast<Mlp*>(this)->w1(); }
  MatrixView<const float> w2() const { return const_cast<Mlp*>(this)->w2(); }
  std::span<const float> b1() const { return const_cast<Mlp*>(this)->b1(); }
  std::span<const float> b2() const { return const_cast<Mlp*>(this)->b2(); }

 private:
  int64_t W2Offset() const { return shape_.hidden * shape_.d_model; }
  size_t B1Offset() const { return static_cast<size_t>(shape_.hidden * (shape_.d_model + shape_.d_ff)); }

  MlpShape shape_;
  Matrix<float> storage_;  // (1, parameters): w1, w2, b1, b2
};

// What the gradient of a batch needs beside the parameters.
struct MlpScratch {
  static absl::StatusOr<MlpScratch> Create(const MlpShape& shape, int64_t most_tokens);
  Matrix<float> hidden;            // (n_tokens, hidden)
  Matrix<float> hidden_columns;    // (hidden, n_tokens)
  Matrix<float> scores;            // (n_tokens, d_ff)
  Matrix<float> scores_columns;    // (d_ff, n_tokens)
  Matrix<float> x_columns;         // (d_model, n_tokens)
  Matrix<float> gradient;          // (n_tokens, hidden)
  Matrix<float> gradient_columns;  // (hidden, n_tokens)
  Matrix<float> w2_columns;        // (hidden, d_ff)
};

// scores = w2 * relu(w1 * x + b1) + b2 of n_tokens. w1: (hidden, d_model), w2: (d_ff, hidden), of any element
// type; x: (n_tokens, d_model), hidden: (n_tokens, hidden), scores: (n_tokens, d_ff).
void MlpScores(const CpuContext& context, const WeightView& w1, std::span<const float> b1,
               const WeightView& w2, std::span<const float> b2, MatrixView<const float> x,
               MatrixView<float> hidden, MatrixView<float> scores);

// Weighted binary cross-entropy in nats a token, summed over neurons: active neurons count positive_weight
// times. scores: (n_tokens, d_ff), active: (n_tokens, BitWords(d_ff)).
double MlpLoss(const CpuContext& context, MatrixView<const float> scores, MatrixView<const uint64_t> active,
               double positive_weight);

// Overwrites `gradient` with that of the loss of a batch. x: (n_tokens, d_model), active: (n_tokens,
// BitWords(d_ff)). n_tokens at most the scratch's.
void MlpGradient(const CpuContext& context, const Mlp& mlp, MatrixView<const float> x,
                 MatrixView<const uint64_t> active, double positive_weight, MlpScratch& scratch,
                 Mlp& gradient);

}  // namespace thermocline
