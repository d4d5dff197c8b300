// Activation functions of the feed-forward block.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/status.h"

namespace thermocline {

enum class Activation {
  kRelu,     // max(0, x)
  kSilu,     // x / (1 + exp(-x))
  kFatRelu,  // x where x >= threshold, else 0 (ReLU with a forced threshold)
};

// An activation with its parameter.
struct ActivationFunction {
  Activation kind = Activation::kRelu;
  float threshold = 0;  // of activations that have one

  constexpr ActivationFunction(Activation the_kind,
                               float the_threshold = 0)  // NOLINT: most have no parameter
      : kind(the_kind), threshold(the_threshold) {}
  bool operator==(const ActivationFunction&) const = default;
};

std::string_view NameOf(Activation activation);

// Hugging Face names ("relu", "silu", "swish") and "fatrelu". Unknown names are InvalidArgument.
absl::StatusOr<Activation> ParseActivation(std::string_view name);

// Whether the function is exactly zero on a range of inputs, so that neurons can be silent.
bool HasTrueZeros(Activation activation);

}  // namespace thermocline
