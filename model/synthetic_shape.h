// What a synthetic model is asked to be: shape, element type and planted structure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/element_type.h"
#include "core/status.h"
#include "model/config.h"

namespace thermocline {

struct SyntheticShape {
  int64_t n_layers = 0;
  int64_t d_model = 0;
  int64_t d_ff = 0;
  int64_t n_heads = 0;
  int64_t n_kv_heads = 0;
  int64_t n_vocab = 0;
};

// "7b", "13b", "30b", "70b" (the shapes of LLaMA models), "tiny" (tests), or all six of
// "layers=..,d_model=..,d_ff=..,heads=..,kv-heads=..,vocab=..". InvalidArgument naming what is wrong.
absl::StatusOr<SyntheticShape> ParseSyntheticShape(std::string_view text);

struct SyntheticOptions {
  SyntheticShape shape;
  ElementType type = ElementType::kQ4_0;
  double sparsity = 0.9;         // mean over layers and neurons
  double skew = 0.26;            // share of a layer's neurons that make 80 % of its activations
  double predictability = 0.95;  // share of a gate's variance that lies in the planted subspace
  int64_t rank = 0;              // of that subspace, a multiple of 16; 0: DefaultRank
  uint64_t seed = 0;
};

// d_model / 32, from 16 to 128: what trained predictors' hidden sizes are like.
int64_t DefaultRank(const SyntheticShape& shape);

// The configuration of the model: llama, gated, FATReLU.
ModelConfig SyntheticConfig(const SyntheticShape& shape);

// One for each option; InvalidArgument saying the value and the limit, without the option's name.
absl::Status CheckSyntheticShape(const SyntheticOptions& options);  // with the type's blocks
absl::Status CheckSyntheticType(const SyntheticOptions& options);
absl::Status CheckSyntheticSparsity(const SyntheticOptions& options);
absl::Status CheckSyntheticSkew(const SyntheticOptions& options);
absl::Status CheckSyntheticPredictability(const SyntheticOptions& options);
absl::Status CheckSyntheticRank(const SyntheticOptions& options);

}  // namespace thermocline
