// ModelConfig from Hugging Face's config.json.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/status.h"
#include "model/config.h"

namespace thermocline {

// `text` is the JSON, `file` its name for messages. `activation` overrides hidden_act; FATReLU needs
// hidden_act_param all the same. Validated. Unknown architectures, activations and RoPE scalings are refused
// by name; errors name file, field and limit.
absl::StatusOr<ModelConfig> ConfigFromHuggingFace(std::string_view text, const std::string& file,
                                                  std::optional<Activation> activation = {});

}  // namespace thermocline
