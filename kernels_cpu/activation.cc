// Activation names.
// SPDX-License-Identifier: Apache-2.0
#include "kernels_cpu/activation.h"

namespace thermocline {

std::string_view NameOf(Activation activation) {
  switch (activation) {
    case Activation::kRelu:
      return "relu";
    case Activation::kSilu:
      return "silu";
    case Activation::kFatRelu:
      return "fatrelu";
    case Activation::kGelu:
      return "gelu";
    case Activation::kGeluTanh:
      return "gelu_tanh";
    case Activation::kRelu2:
      return "relu2";
    case Activation::kDRelu:
      return "drelu";
  }
  TC_CHECK(false);
}

absl::StatusOr<Activation> ParseActivation(std::string_view name) {
  if (name == "relu") return Activation::kRelu;
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "fatrelu") return Activation::kFatRelu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_tanh" || name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  if (name == "relu2") return Activation::kRelu2;
  if (name == "drelu") return Activation::kDRelu;
  return InvalidArgument("activation '{}' is unknown; known are {}", name, kKnownActivations);
}

bool HasTrueZeros(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
    case Activation::kGelu:
    case Activation::kGeluTanh:
      return false;
    case Activation::kRelu:
    case Activation::kFatRelu:
    case Activation::kRelu2:
    case Activation::kDRelu:
      return true;
  }
  TC_CHECK(false);
}

}  // namespace thermocline
