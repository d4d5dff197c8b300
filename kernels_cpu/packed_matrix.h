// PackedMatrix: weights in panels of 16 interleaved rows, for products with rounded activations.
// SPDX-License-Identifier: Apache-2.0
//
// A panel holds 16 rows: first the quants of all their blocks of 32 columns, then their scales. A block's
// quants are words of 4 columns: word k of row 0, of row 1, ... of row 15, then word k + 1, so that one
// vector multiplies the same 4 columns of 16 rows. Q8_0 has 8 words of 4 bytes a row; types of 4 bits have 4
// words, whose low nibbles hold columns 4k to 4k + 3 of the block and whose high ones columns 16 more. Rows
// past the matrix are zeros.
//
// F16 and BF16 become 16-bit integers, 16 words of two columns each, with one bfloat16 scale for a row's
// block, the largest magnitude over kInt16Peak; a weight is off by at most half a scale. Beside an F16 weight
// as large as its block's largest that is less than its own rounding. They multiply activations of 16 bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/buffer.h"
#include "core/matrix.h"
#include "core/status.h"

namespace thermocline {

inline constexpr int64_t kPanelRows = 16;

// How the panels of one element type lie.
struct PanelLayout {
  int64_t quant_bytes = 0;    // of a block of 32 columns
  int64_t scale_columns = 0;  // that one record of scales covers
  int64_t scale_bytes = 0;    // of that record
  int64_t scales_offset = 0;  // in the panel
  int64_t panel_bytes = 0;    // a multiple of 64
};

struct CpuContext;
struct KernelTable;

// Q4_0, Q4_1, Q8_0 and Q4_K have panels; F16 and BF16, where a row is whole blocks of 32.
bool HasPanels(ElementType type, int64_t cols);
// Whether those panels multiply activations of 16 bits, not 8.
bool TakesInt16(ElementType type);
// Of a matrix of so many columns, whole blocks of a type that has panels.
PanelLayout PanelLayoutOf(ElementType type, int64_t cols);

// Borrows a packed (rows, cols) matrix.
struct PackedView {
  const std::byte* data = nullptr;
  ElementType type = ElementType::kQ8_0;
  int64_t rows = 0;
  int64_t cols = 0;
  PanelLayout layout;

  int64_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  int64_t size_bytes() const { return panels() * layout.panel_bytes; }
  const std::byte* panel(int64_t p) const { return data + p * layout.panel_bytes; }
  // Panels [begin, begin + count).
  PackedView Panels(int64_t begin, int64_t count) const {
    const int64_t left = rows - begin * kPanelRows;
    return {panel(begin), type, left < count * kPanelRows ? left : count * kPanelRows, cols, layout};
  }
};

// Packs rows of a type that has panels. panels: room for one for every kPanelRows rows begun.
void PackPanels(const KernelTable& kernels, const WeightView& w, std::byte* panels);

// Owns one.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // Copies w, whose type has panels. ResourceExhausted when the memory is not to be had.
  static absl::StatusOr<PackedMatrix> Create(const CpuContext& context, const WeightView& w);

  const PackedView& view() const { return view_; }
  bool empty() const { return view_.data == nullptr; }

 private:
  AlignedBuffer storage_;
  PackedView view_;
};

// A matrix as a device holds it for products: packed, or its rows as they lie.
struct HeldMatrix {
  WeightView rows;  // without data where packed
  PackedMatrix packed;
};

}  // namespace thermocline
