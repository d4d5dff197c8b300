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
  }
  TC_CHECK(false);
}

absl::StatusOr<Activation> ParseActivation(std::string_view name) {
  if (name == "relu") return Activation::kRelu;
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "fatrelu") return Activation::kFatRelu;
  return InvalidArgument("activation '{}' is unknown; known are relu, silu, fatrelu", name);
}

bool HasTrueZeros(Activation activation) { return activation != Activation::kSilu; }

}  // namespace thermocline
