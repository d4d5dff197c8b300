// ModelConfig: the shape and the numerical choices of a decoder, whatever file it came from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "kernels_cpu/activation.h"

namespace thermocline {

enum class RopePairing {
  kHalf,         // (x[i], x[i + d/2]), as Hugging Face stores LLaMA weights
  kInterleaved,  // (x[2i], x[2i + 1]), as GGUF stores LLaMA weights
};

struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;         // llama3 only
  double high_freq_factor = 4.0;        // llama3 only
  int64_t original_context_length = 0;  // llama3 only
  // Per-pair divisors of the frequencies, as GGUF's rope_freqs tensor gives them for llama3; empty when there
  // are none.
  std::vector<float> frequency_divisors = {};
};

enum class NormKind {
  kRms,    // x / sqrt(mean(x^2) + epsilon) * weight
  kLayer,  // (x - mean(x)) / sqrt(variance(x) + epsilon) * weight + bias
};

enum class PositionKind {
  kRotary,   // RoPE of queries and keys
  kLearned,  // a table of vectors that are added to the embedding
};

// Attention that sees only the last positions, its own included, in some layers.
struct SlidingWindow {
  int64_t tokens = 0;             // 0: no layer has one
  std::vector<bool> layers = {};  // (n_layers), which have one; empty: all
  double rope_theta = 0;          // of those layers, without scaling; 0: as in the others

  bool On(int64_t layer) const {
    return tokens > 0 && (layers.empty() || layers[static_cast<size_t>(layer)]);
  }
};

// How a folder keeps weights that are -1, 0 or 1 times a scale (BitNet). They are expanded when they are
// loaded.
enum class TernaryWeights {
  kNone,    // they are not ternary
  kPacked,  // four to a byte, and the scale beside them
  kMaster,  // as they were trained: rounded to the nearest, the scale being their mean magnitude
};

// A layer reads, with what is off left out:
//   attended = attention(norm(x)), its queries and keys biased, normed a head, rotated
//   x += residual_scale * post_norm(output(sub_norm(attended)))
//   h = activation(gate . norm(x) + bias) * up . norm(x)
//   x += residual_scale * post_norm(down . sub_norm(h) + bias)
// In parallel blocks both halves read the x from before the layer.
struct ModelConfig {
  std::string architecture;  // as GGUF calls it: "llama", "gemma3"
  Activation activation = Activation::kSilu;
  float activation_threshold = 0;  // of activations that have one (FATReLU)
  bool gated = true;
  int64_t n_layers = 0;
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t d_head = 0;
  int64_t n_vocab = 0;
  int64_t context_length = 0;
  NormKind norm = NormKind::kRms;
  double norm_epsilon = 1e-5;
  bool parallel_blocks = false;  // attention and feed-forward block read the same residual stream
  bool shared_norm = false;      // parallel: and the same norm of it
  bool post_norms = false;       // what a block adds is normed first
  bool sub_norms = false;        // attention's result and the hidden layer are normed before the last product
  bool query_key_norms = false;  // RMSNorm of each head's query and key, before RoPE
  bool query_key_value_bias = false;
  bool attention_output_bias = false;
  bool ffn_bias = false;          // ungated blocks only
  double attention_scale = 0;     // multiplies query . key; 0: 1 / sqrt(d_head)
  double attention_soft_cap = 0;  // scores become cap * tanh(score / cap); 0: they stay
  double logit_soft_cap = 0;      // the same of logits
  double embedding_scale = 1;
  double residual_scale = 1;  // of what a block adds
  double logit_scale = 1;
  SlidingWindow window;
  TernaryWeights ternary = TernaryWeights::kNone;  // of a layer's matrices
  PositionKind positions = PositionKind::kRotary;
  int64_t position_offset = 0;  // learned: position p is row p + position_offset of the table
  double rope_theta = 10000.0;
  int64_t rope_dimensions = 0;  // leading dimensions of a head that are rotated; even
  RopePairing rope_pairing = RopePairing::kHalf;
  RopeScaling rope_scaling;
  bool tied_head = false;  // the head is the token embedding

  // Whether a silent neuron can be left out: its activation is exactly zero, and no norm of the hidden layer
  // asks for all of them.
  bool has_silent_neurons() const { return HasTrueZeros(activation) && !sub_norms; }
  ActivationFunction activation_function() const { return {activation, activation_threshold}; }
};

// The threshold of an activation that has one. InvalidArgument naming `file`, `field` and the limit unless it
// is a finite float and not negative.
absl::StatusOr<float> CheckThreshold(double threshold, const std::string& file, std::string_view field);

// Checks ranges and divisibility; the message names `file`, the field, its value and the limit.
absl::Status Validate(const ModelConfig& config, const std::string& file);

}  // namespace thermocline
