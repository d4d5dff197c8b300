// ModelWeights: a checkpoint's tensors bound, checked and laid out for the CPU.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "model/checkpoint.h"

namespace thermocline {

// How a layer's feed-forward weights lie in memory.
enum class FfnLayout {
  kAuto,      // bundles where the activation has true zeros, else matrices
  kBundles,   // neuron-major: gate_i, up_i, down_i side by side
  kMatrices,  // as in the file
};

struct FeedForward {
  FfnLayout layout = FfnLayout::kMatrices;
  // kMatrices: borrowed from the checkpoint.
  WeightView gate;  // (d_ff, d_model)
  WeightView up;    // (d_ff, d_model)
  WeightView down;  // (d_model, d_ff)
  // kBundles: owned.
  AlignedBuffer bundle_storage;
  BundleView bundles;  // d_ff neurons
};

struct LayerWeights {
  std::vector<float> attention_norm;  // (d_model)
  WeightView query;                   // (n_heads * d_head, d_model)
  WeightView key;                     // (n_kv_heads * d_head, d_model)
  WeightView value;                   // (n_kv_heads * d_head, d_model)
  WeightView attention_output;        // (d_model, n_heads * d_head)
  std::vector<float> ffn_norm;        // (d_model)
  FeedForward ffn;
};

struct WeightOptions {
  FfnLayout ffn_layout = FfnLayout::kAuto;
};

struct ModelWeights {
  WeightView token_embedding;  // (n_vocab, d_model)
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;  // (d_model)
  WeightView head;                 // (n_vocab, d_model)

  // Borrows from the checkpoint, which must outlive the result. Bundles are laid out with the context's
  // threads.
  static absl::StatusOr<ModelWeights> Load(const Checkpoint& checkpoint, const CpuContext& context,
                                           const WeightOptions& options = {});

  // Bytes of weights that one decoded token reads: everything but the embedding's other rows.
  int64_t bytes_per_token() const;
  int64_t ffn_bytes() const;  // of them, the feed-forward blocks'
};

}  // namespace thermocline
