// Activation functions of the feed-forward block.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/status.h"

namespace thermocline {

enum class Activation {
  kRelu,      // max(0, x)
  kSilu,      // x / (1 + exp(-x))
  kFatRelu,   // x where x >= threshold, else 0 (ReLU with a forced threshold)
  kGelu,      // x * Phi(x), Phi the normal distribution's
  kGeluTanh,  // the same with Phi(x) = (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
  kRelu2,     // max(0, x)^2
  kDRelu,     // ReLU of the gate and of the up product, too (gated blocks only)
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

// Hugging Face's names (gelu_new and gelu_pytorch_tanh are kGeluTanh, swish is kSilu), "fatrelu" and "drelu".
// Unknown names are InvalidArgument.
absl::StatusOr<Activation> ParseActivation(std::string_view name);

// The names of ParseActivation, for messages.
inline constexpr std::string_view kKnownActivations = "relu, silu, fatrelu, gelu, gelu_tanh, relu2, drelu";

// Whether the function is exactly zero on a range of inputs, so that neurons can be silent.
bool HasTrueZeros(Activation activation);

}  // namespace thermocline
