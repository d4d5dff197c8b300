// NeuronPredictor: a layer's predictor ready for inference over the tables that hold the layer's neurons.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/sparse_ffn.h"
#include "predictor/predictor_set.h"

namespace thermocline {

// What one step marked in one table. Capacities are fixed when it is created.
struct MarkedNeurons {
  std::vector<uint32_t> rows;     // of the table, ascending
  std::vector<TokenMask> tokens;  // which tokens need each
  int64_t count = 0;
  NeuronSelection selection() const;
};

// The layer's numbers of the neurons of all tables, one table after the other. Checks (TC_CHECK) that they
// are every neuron below d_ff once.
std::vector<uint32_t> NeuronOrder(std::span<const std::vector<uint32_t>> tables, int64_t d_ff);

// Scores are computed in the tables' order, so that each table gets its own list of rows without any sorting.
class NeuronPredictor {
 public:
  // tables: the layer's neurons as each table orders them; together every neuron of the layer once.
  // gate: (d_ff, d_model), for sign predictors; only read here. ResourceExhausted when memory is short.
  static absl::StatusOr<NeuronPredictor> Create(const CpuContext& context, const LayerPredictor& predictor,
                                                std::span<const std::vector<uint32_t>> tables,
                                                const WeightView& gate);

  // Scratch shared by the predictors of all layers, for steps of up to kMostSparseTokens.
  struct Scratch {
    static absl::StatusOr<Scratch> Create(int64_t d_model, int64_t d_ff, int64_t most_hidden);
    Matrix<float> hidden;    // (tokens, most_hidden)
    Matrix<float> scores;    // (tokens, d_ff)
    Matrix<uint64_t> signs;  // (tokens, BitWords(d_model))
    Matrix<uint64_t> bits;   // (tokens, BitWords(d_ff))
  };

  // marked: one for each table, with room for its neurons. x: (n_tokens <= kMostSparseTokens, d_model).
  // qualities: (n_tokens), none kExact. Allocates nothing.
  void Predict(const CpuContext& context, MatrixView<const float> x, std::span<const Quality> qualities,
               Scratch& scratch, std::span<MarkedNeurons> marked) const;

  int64_t size_bytes() const;                 // of what an evaluation reads
  int64_t hidden() const { return hidden_; }  // 0 for sign predictors

 private:
  NeuronPredictor() = default;
  absl::Status TakeWeights(const LayerPredictor& predictor, std::span<const uint32_t> order);
  absl::Status PackGate(const CpuContext& context, const WeightView& gate, std::span<const uint32_t> order);
  // scratch.scores: (n_tokens, d_ff) of x.
  void Score(const CpuContext& context, MatrixView<const float> x, Scratch& scratch) const;

  PredictorKind kind_ = PredictorKind::kSign;
  int64_t d_model_ = 0;
  int64_t d_ff_ = 0;
  int64_t hidden_ = 0;
  float balanced_threshold_ = 0;
  float fast_threshold_ = 0;
  std::vector<int64_t> table_sizes_;  // neurons of each table
  // Rows of w2_, b2_ and signs_ follow the tables, one table after the other.
  Matrix<std::byte> w1_;    // (hidden, bytes of a Q8_0 row)
  std::vector<float> b1_;   // (hidden)
  Matrix<std::byte> w2_;    // (d_ff, bytes of a Q8_0 row)
  std::vector<float> b2_;   // (d_ff)
  Matrix<uint64_t> signs_;  // (d_ff, BitWords(d_model))
};

}  // namespace thermocline
