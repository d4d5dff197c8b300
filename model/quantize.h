// Quantisation of rows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "core/element_type.h"
#include "core/status.h"

namespace thermocline {

// Q8_0: blocks of 32, scale = largest magnitude / 127 as F16, values rounded to nearest. row.size() is a
// multiple of 32; target holds 34 bytes a block.
void QuantizeQ8_0(std::span<const float> row, std::byte* target);

// Q4_0: blocks of 32, scale = the value of largest magnitude, with its sign, / -8 as F16, so that this value
// is exact and those near its opposite are cut at 7/8 of it; values rounded to nearest. row.size() is a
// multiple of 32; target holds 18 bytes a block.
void QuantizeQ4_0(std::span<const float> row, std::byte* target);

// Whether QuantizeRow knows the type: F32, F16, BF16, Q8_0, Q4_0.
bool CanQuantize(ElementType type);
// The row as `type`, which CanQuantize. row.size() is a multiple of the type's block; target holds RowBytes.
void QuantizeRow(ElementType type, std::span<const float> row, std::byte* target);

}  // namespace thermocline
