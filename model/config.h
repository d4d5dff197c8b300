// ModelConfig: the shape and the numerical choices of a decoder, whatever file it came from.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
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

struct ModelConfig {
  std::string architecture;  // "llama"
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
  double norm_epsilon = 1e-5;
  double rope_theta = 10000.0;
  int64_t rope_dimensions = 0;  // leading dimensions of a head that are rotated; even
  RopePairing rope_pairing = RopePairing::kHalf;
  RopeScaling rope_scaling;
  bool tied_head = false;  // the head is the token embedding

  ActivationFunction activation_function() const { return {activation, activation_threshold}; }
};

// Checks ranges and divisibility; the message names `file`, the field, its value and the limit.
absl::Status Validate(const ModelConfig& config, const std::string& file);

}  // namespace thermocline
