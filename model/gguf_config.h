// ModelConfig from the metadata of a GGUF file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "core/status.h"
#include "model/config.h"
#include "model/gguf_file.h"

namespace thermocline {

// GGUF has no key for the activation; these are ours. Without the first it is the architecture's.
inline constexpr std::string_view kGgufActivationKey =
    "thermocline.activation";  // as ParseActivation knows them
inline constexpr std::string_view kGgufThresholdKey =
    "thermocline.activation_threshold";  // FATReLU's, FLOAT32

// `activation` overrides the file's; FATReLU needs the threshold key all the same. Validated. Unknown
// architectures and RoPE scalings are refused by name; errors name file, key and limit.
absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufFile& gguf, std::optional<Activation> activation = {});

}  // namespace thermocline
