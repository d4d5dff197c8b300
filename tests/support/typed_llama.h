// A small llama whose feed-forward weights are of any element type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/element_type.h"
#include "model/config.h"

namespace thermocline {

// 3 layers, d_model 256, d_ff 512, 4 heads of 64, 2 key/value heads, 64 tokens, context 96: every type's
// blocks fit.
ModelConfig TypedLlamaConfig();

// Writes it as GGUF, ReLU, without a tokenizer: random weights of a size that keeps the residual stream tame,
// those of the feed-forward blocks of `type`, the others F32.
void WriteTypedLlama(const std::string& path, const ModelConfig& config, ElementType type, uint32_t seed);

}  // namespace thermocline
