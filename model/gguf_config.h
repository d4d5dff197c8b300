// ModelConfig from the metadata of a GGUF file.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "core/status.h"
#include "model/config.h"
#include "model/gguf_file.h"

namespace thermocline {

// `activation` overrides the architecture's. Validated. Unknown architectures and RoPE scalings are refused
// by name; errors name file, key and limit.
absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufFile& gguf, std::optional<Activation> activation = {});

}  // namespace thermocline
