// SyntheticModel: a model for speed tests whose sparsity, skew and predictability are planted, not learnt.
// SPDX-License-Identifier: Apache-2.0
//
// Every token's embedding is a direction u that all tokens share, plus a normal vector in a subspace of low
// rank, plus normal noise. Attention and feed-forward blocks add next to nothing, so that the input of every
// layer is the token's embedding after the norm. Row i of a gate is a combination of the subspace's basis,
// plus noise, minus a multiple of u: over tokens gate_i . x is normal with variance 1 and a mean that u sets,
// and so is the probability that it reaches the activation's threshold.
//
// The threshold of the FATReLU is a quarter of a gate's standard deviation, so that computing with plain ReLU
// would fire a third more neurons and be seen.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/matrix.h"
#include "core/status.h"
#include "core/thread_team.h"
#include "model/synthetic_shape.h"

namespace thermocline {

inline constexpr float kPlantedThreshold = 0.25f;
inline constexpr int64_t kLeastSyntheticVocabulary = 512;
inline constexpr int64_t kMostSyntheticVocabulary = int64_t{1} << 20;
// Ids below are <unk>, <s>, </s> and the 256 bytes; pieces of text follow.
inline constexpr int64_t kFirstSyntheticPiece = 259;

class SyntheticModel {
 public:
  // InvalidArgument naming the option, its value and the limit; ResourceExhausted when memory is short.
  static absl::StatusOr<SyntheticModel> Create(const SyntheticOptions& options);

  // Writes the GGUF file, tensor after tensor, in blocks of rows. The same bytes for the same options,
  // whatever the team. FailedPrecondition naming path and reason; the old file is then whole.
  absl::Status Write(const std::string& path, const ThreadTeam& team) const;

  const ModelConfig& config() const { return config_; }
  int64_t rank() const { return basis_.rows() - 1; }
  // (rank + 1, d_model), orthonormal: u, then the subspace.
  const Matrix<float>& basis() const { return basis_; }
  // Phi of these is how often each neuron of the layer is to fire, before the weights were rounded. (d_ff)
  std::vector<float> Quantiles(int64_t layer) const;

 private:
  struct Tensor;
  SyntheticModel(const SyntheticOptions& options, Matrix<float> basis);
  std::vector<Tensor> Tensors() const;
  void EmbeddingRow(uint64_t stream, int64_t row, std::span<float> out) const;
  void HeadRow(int64_t row, std::span<float> out) const;
  void GateRow(uint64_t stream, int64_t row, float quantile, std::span<float> out) const;

  SyntheticOptions options_;
  ModelConfig config_;
  Matrix<float> basis_;
  std::vector<double> densities_;  // (n_layers), the share of neurons that fires
  std::vector<double> spreads_;    // (n_layers)
};

}  // namespace thermocline
