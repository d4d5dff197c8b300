// Ternary weights (BitNet) expanded: -1, 0 or 1 times a scale.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "core/buffer.h"
#include "core/matrix.h"
#include "core/status.h"
#include "kernels_cpu/kernel_table.h"

namespace thermocline {

struct ExpandedTernary {
  AlignedBuffer storage;
  WeightView view;  // BF16 where that holds the scale exactly, else F32
};

// `packed`: (rows / 4, cols) bytes; bits 2i and 2i + 1 of row j, less 1, are row i * rows / 4 + j. The caller
// has checked the size.
absl::StatusOr<ExpandedTernary> ExpandPackedTernary(std::span<const std::byte> packed, int64_t rows,
                                                    int64_t cols, float scale);

// The nearest ternary weights, their scale the mean magnitude, rounded to BF16 where `weights` are BF16.
absl::StatusOr<ExpandedTernary> RoundToTernary(const KernelTable& kernels, const WeightView& weights);

}  // namespace thermocline
