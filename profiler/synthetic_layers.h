// SyntheticLayers: feed-forward layers that exist only to be timed, one token at a time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "core/buffer.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "kernels_cpu/sparse_ffn.h"

namespace thermocline {

struct SyntheticShape {
  int64_t d_model = 0;
  int64_t d_ff = 0;  // neurons of a layer
  ElementType gate_type = ElementType::kF16;
  ElementType up_type = ElementType::kF16;  // gated only
  ElementType down_type = ElementType::kF16;
  bool gated = true;
};

// Layers of bundles with ReLU. Every weight and every input is the same positive number, so that each neuron
// that is computed fires.
class SyntheticLayers {
 public:
  // As many layers as make working_set_bytes, at least one; 0: UncachedWorkingSetBytes(). `context` must
  // outlive the result. InvalidArgument for a shape or type that has no bundles, ResourceExhausted when the
  // layers do not fit.
  static absl::StatusOr<SyntheticLayers> Create(const CpuContext& context, const SyntheticShape& shape,
                                                int64_t working_set_bytes);

  size_t n_layers() const { return layers_.size(); }
  int64_t n_neurons() const { return layers_.front().n_neurons; }
  int64_t layer_bytes() const;  // of weights, without padding

  // Computes every neuron with the dense operators.
  void RunDense(size_t layer);
  // Computes these neurons (ascending) with the neuron-aware operator. They all fire (TC_CHECK). Returns the
  // bytes read.
  int64_t RunSparse(size_t layer, std::span<const uint32_t> neurons);

 private:
  SyntheticLayers() = default;

  CpuContext context_;
  AlignedBuffer storage_;
  std::vector<BundleView> layers_;
  Matrix<float> input_;           // (1, d_model)
  Matrix<float> gate_;            // (1, d_ff)
  Matrix<float> up_;              // (1, d_ff)
  Matrix<float> partials_;        // (1, FfnPartialsSize)
  Matrix<float> sparse_;          // (1, SparseFfnScratchSize)
  Matrix<float> output_;          // (1, d_model)
  std::vector<TokenMask> fired_;  // (d_ff)
};

// Which neurons of a layer each token of a sample marks, ascending: `per_token` of n, at random, so that a
// neuron comes again only after all others. As many tokens as mark every neuron at least once.
std::vector<std::vector<uint32_t>> DealNeurons(int64_t n, int64_t per_token, std::mt19937_64& random);

}  // namespace thermocline
