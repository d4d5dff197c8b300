// Expansion of ternary weights.
// SPDX-License-Identifier: Apache-2.0
#include "model/ternary.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "core/half.h"

namespace thermocline {
namespace {

// Room for a matrix, in BF16 where that holds `scale` exactly.
absl::StatusOr<ExpandedTernary> Make(int64_t rows, int64_t cols, float scale) {
  const bool narrow = BFloat16ToFloat(FloatToBFloat16(scale)) == scale;
  ExpandedTernary expanded;
  expanded.view = {.type = narrow ? ElementType::kBF16 : ElementType::kF32, .rows = rows, .cols = cols};
  TC_ASSIGN_OR_RETURN(expanded.view.row_stride_bytes, RowBytes(expanded.view.type, cols));
  TC_ASSIGN_OR_RETURN(expanded.storage, AlignedBuffer::Create(rows * expanded.view.row_stride_bytes));
  expanded.view.data = expanded.storage.data();
  return expanded;
}

// row = sign(c) * scale for every column c.
template <typename Sign>
void FillRow(ExpandedTernary& expanded, int64_t row, float scale, const Sign& sign) {
  std::byte* const data = expanded.storage.data() + row * expanded.view.row_stride_bytes;
  for (int64_t c = 0; c < expanded.view.cols; ++c) {
    const float value = static_cast<float>(sign(c)) * scale;
    if (expanded.view.type == ElementType::kF32) {
      std::memcpy(data + c * 4, &value, sizeof(value));
    } else {
      const uint16_t half = FloatToBFloat16(value);
      std::memcpy(data + c * 2, &half, sizeof(half));
    }
  }
}

}  // namespace

absl::StatusOr<ExpandedTernary> ExpandPackedTernary(std::span<const std::byte> packed, int64_t rows,
                                                    int64_t cols, float scale) {
  TC_ASSIGN_OR_RETURN(ExpandedTernary expanded, Make(rows, cols, scale));
  const int64_t packed_rows = rows / 4;
  for (int64_t row = 0; row < rows; ++row) {
    const std::byte* const bytes = packed.data() + row % packed_rows * cols;
    const int shift = 2 * static_cast<int>(row / packed_rows);
    FillRow(expanded, row, scale,
            [&](int64_t c) { return ((std::to_integer<int>(bytes[c]) >> shift) & 3) - 1; });
  }
  return expanded;
}

absl::StatusOr<ExpandedTernary> RoundToTernary(const KernelTable& kernels, const WeightView& weights) {
  std::vector<float> row(static_cast<size_t>(weights.cols));
  double sum = 0;
  for (int64_t r = 0; r < weights.rows; ++r) {
    kernels.dequantize(weights.type, weights.row_data(r), weights.cols, row.data());
    for (const float value : row) sum += std::abs(value);
  }
  const auto mean = static_cast<float>(sum / static_cast<double>(weights.rows * weights.cols));
  const float scale = std::max(mean, 1e-5f);
  const bool narrow = weights.type == ElementType::kBF16;
  const float stored = narrow ? BFloat16ToFloat(FloatToBFloat16(scale)) : scale;
  TC_ASSIGN_OR_RETURN(ExpandedTernary expanded, Make(weights.rows, weights.cols, stored));
  for (int64_t r = 0; r < weights.rows; ++r) {
    kernels.dequantize(weights.type, weights.row_data(r), weights.cols, row.data());
    FillRow(expanded, r, stored, [&](int64_t c) {
      return std::clamp(std::nearbyint(row[static_cast<size_t>(c)] / scale), -1.0f, 1.0f);
    });
  }
  return expanded;
}

}  // namespace thermocline
