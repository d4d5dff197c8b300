// Quantisation of rows.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

namespace thermocline {

// Q8_0: blocks of 32, scale = largest magnitude / 127 as F16, values rounded to nearest. row.size() is a
// multiple of 32; target holds 34 bytes a block.
void QuantizeQ8_0(std::span<const float> row, std::byte* target);

}  // namespace thermocline
