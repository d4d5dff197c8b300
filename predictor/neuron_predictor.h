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

  int64_t size_bytes() const;  // of what an evaluation reads
  int64_t hidden() const;      // 0 for sign predictors
};

}  // namespace thermocline
