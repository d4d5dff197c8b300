// Training of one layer's Mlp: Adam on weighted cross-entropy, stopped when held-out tokens say so.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/status.h"
#include "kernels_cpu/parallel.h"
#include "predictor/activation_samples.h"
#include "predictor/mlp.h"

namespace thermocline {

struct FitOptions {
  int64_t hidden = 32;         // a multiple of 32
  int64_t token_passes = 0;    // tokens seen at most, each as often as passes over it
  double positive_weight = 1;  // of active neurons in the loss
  uint64_t seed = 1;
};

// Floating-point operations of one token's pass through training.
double FlopsOfTokenPass(const MlpShape& shape);

// The Mlp with the least loss on held_out. go_on is asked with the share done before every mini-batch; when
// it says no the result is Cancelled. The same bits for the same samples and options on any number of
// threads.
absl::StatusOr<Mlp> FitMlp(const CpuContext& context, int64_t d_ff, const LayerSamples& training,
                           const LayerSamples& held_out, const FitOptions& options,
                           const std::function<bool(double share_done)>& go_on);

// Tokens for which each of d_ff neurons was active. active: (n_tokens, BitWords(d_ff)).
std::vector<uint64_t> CountActiveNeurons(MatrixView<const uint64_t> active, int64_t d_ff);

// The row as F32, times scale.
void ExpandBFloat16(std::span<const uint16_t> row, float scale, std::span<float> target);

}  // namespace thermocline
