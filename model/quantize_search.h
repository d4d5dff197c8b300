// Quantisation of rows with a search for the best scales: slower and closer than quantize.h.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "core/element_type.h"

namespace thermocline {

// Whether QuantizeRowClosely knows the type: F32, F16, BF16, Q8_0, Q4_0, Q5_0, Q4_K, Q6_K.
bool CanQuantizeClosely(ElementType type);

// The row as `type`, which CanQuantizeClosely, its sum of squared errors as small as the search finds it.
// F32, F16, BF16 and Q8_0 are as in QuantizeRow. Q4_0 and Q5_0: for each block of 32 some scales around the
// one that fits the largest value, each followed by the least-squares scale of the integers that it gives.
// Q6_K: the same for each 16 values, then the super-block's scale by least squares. Q4_K: scale and minimum
// of each 32 values by least squares for some scales around the range, then both of the super-block. Never
// worse than rounding to nearest at the scale of the largest value, which is among those that are tried.
//
// Values must be finite and, unless the type is F32 or BF16, at most kMostHalf in magnitude. row.size() is a
// multiple of the type's block; target holds RowBytes.
void QuantizeRowClosely(ElementType type, std::span<const float> row, std::byte* target);

inline constexpr float kMostHalf = 65504.0f;  // the largest finite F16

}  // namespace thermocline
