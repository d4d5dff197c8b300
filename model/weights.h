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

inline constexpr int64_t kBundleAlignment = 64;  // bytes; a bundle starts on a cache line

// The down projection's type where it lies in bundles. Plain floats are transposed as they are. A quantised
// block runs along d_ff and cannot be cut into columns: such a matrix is expanded and stored again as Q8_0
// along d_model, which costs at most half a 127th of each block's largest weight.
ElementType BundledDownType(ElementType file_type);

// Bundles of gated neurons whose matrices have these types in the file, without data. InvalidArgument when
// d_model is no multiple of a type's block.
absl::StatusOr<BundleView> BundleLayout(int64_t n_neurons, int64_t d_model, ElementType gate, ElementType up,
                                        ElementType down);
// The same of ungated ones.
absl::StatusOr<BundleView> UngatedBundleLayout(int64_t n_neurons, int64_t d_model, ElementType fc1,
                                               ElementType fc2);

// Weights of a norm; (0): there is no norm, or no bias.
struct NormWeights {
  std::vector<float> weight;  // (width)
  std::vector<float> bias;    // (width)

  bool empty() const { return weight.empty(); }
  int64_t size_bytes() const { return static_cast<int64_t>((weight.size() + bias.size()) * sizeof(float)); }
};

struct FeedForward {
  FfnLayout layout = FfnLayout::kMatrices;
  // kMatrices: borrowed from the checkpoint.
  WeightView gate;  // (d_ff, d_model); of an ungated block FC1
  WeightView up;    // (d_ff, d_model), gated only
  // Both: borrowed. Beside bundles prompts read it: a product over neurons wants blocks along d_ff.
  WeightView down;  // (d_model, d_ff)
  // kBundles: owned.
  AlignedBuffer bundle_storage;
  BundleView bundles;  // d_ff neurons
  // Both, where the model has them.
  std::vector<float> gate_bias;  // (d_ff)
  NormWeights sub_norm;          // (d_ff), of the hidden layer; kMatrices only

  int64_t size_bytes() const;  // of what is there; bundles without what aligns them
};

// What a layer holds besides its neurons. Parts that an architecture does not have are empty.
struct LayerWeights {
  NormWeights attention_norm;        // (d_model)
  WeightView query;                  // (n_heads * d_head, d_model)
  WeightView key;                    // (n_kv_heads * d_head, d_model)
  WeightView value;                  // (n_kv_heads * d_head, d_model)
  std::vector<float> query_bias;     // (n_heads * d_head)
  std::vector<float> key_bias;       // (n_kv_heads * d_head)
  std::vector<float> value_bias;     // (n_kv_heads * d_head)
  NormWeights query_norm, key_norm;  // (d_head)
  NormWeights attention_sub_norm;    // (n_heads * d_head)
  WeightView attention_output;       // (d_model, n_heads * d_head)
  std::vector<float> output_bias;    // (d_model)
  NormWeights post_attention_norm;   // (d_model)
  NormWeights ffn_norm;              // (d_model)
  std::vector<float> down_bias;      // (d_model), of the feed-forward block
  NormWeights post_ffn_norm;         // (d_model)
  FeedForward ffn;

  int64_t attention_bytes() const;  // of everything but ffn
};

struct WeightOptions {
  FfnLayout ffn_layout = FfnLayout::kAuto;
};

struct ModelWeights {
  WeightView token_embedding;  // (n_vocab, d_model)
  WeightView positions;        // (context_length + position_offset, d_model); learned positions only
  std::vector<LayerWeights> layers;
  NormWeights output_norm;  // (d_model)
  WeightView head;          // (n_vocab, d_model)
  std::vector<AlignedBuffer>
      copies;  // of tensors that lay otherwise in the file: rows in another order, ternary

  // Borrows from the checkpoint, which must outlive the result. Bundles are laid out with the context's
  // threads.
  static absl::StatusOr<ModelWeights> Load(const Checkpoint& checkpoint, const CpuContext& context,
                                           const WeightOptions& options = {});

  // Bytes of weights that one decoded token reads: everything but the embedding's other rows.
  int64_t bytes_per_token() const;
  int64_t ffn_bytes() const;   // of them, the feed-forward blocks'
  int64_t head_bytes() const;  // of them, head and final norm
};

}  // namespace thermocline
