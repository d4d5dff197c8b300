// Activations rounded to 8 or 16 bits in blocks of 32: what integer products with packed weights take.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/matrix.h"

namespace thermocline {

inline constexpr int64_t kActivationBlock = 32;  // elements that share a scale; divides every weight's block

// Of one token's block. An activation is scale * value, value in [-127, 127].
struct ActivationBlock {
  float scale = 0.0f;         // the largest magnitude over 127; NaN where the block holds what is not finite
  float scaled_sum = 0.0f;    // scale * the sum of the values: what a weight's minimum is multiplied with
  int32_t minus_8_sum = 0;    // -8 and -128 times the sum of the values: what a product starts with when its
  int32_t minus_128_sum = 0;  // weights are stored with that offset
};

// Borrowed.
struct QuantizedActivations {
  MatrixView<const int8_t> values;           // (n_tokens, cols)
  MatrixView<const ActivationBlock> blocks;  // (n_tokens, cols / kActivationBlock)

  QuantizedActivations Tokens(int64_t begin, int64_t count) const {
    return {values.Rows(begin, count), blocks.Rows(begin, count)};
  }
};

// Magnitude that blocks of 16 bits are scaled to: the sum of 32 products of two such values fits in 32 bits.
inline constexpr int32_t kInt16Peak = 8191;

// Borrowed. An activation is scale * value, value in [-kInt16Peak, kInt16Peak].
struct Int16Activations {
  MatrixView<const int16_t> values;  // (n_tokens, cols)
  MatrixView<const float> scales;    // (n_tokens, cols / kActivationBlock)

  Int16Activations Tokens(int64_t begin, int64_t count) const {
    return {values.Rows(begin, count), scales.Rows(begin, count)};
  }
};

}  // namespace thermocline
