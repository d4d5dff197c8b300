// ColumnMatrix: weights column by column, so that a product reads only the columns whose activation is not 0.
// SPDX-License-Identifier: Apache-2.0
//
// Columns lie in blocks of 32: first the block's scales, then the codes of column 0, of column 1, ... of all
// rows. A column that is not needed is a run of bytes that nobody touches, as long as can be: memory skips
// long runs better than short ones. Types with scales of their own for 256 columns have those before every
// eighth block. Rows are padded with zeros to whole chunks of kChunkRows, and columns to an odd number of
// chunks where there are many: the same rows of many columns are read together, and would share the sets of a
// cache. Codes and scales are those of the file, in 4 or in 8 bits: nothing is rounded again.
//
// Products: SelectColumns and MatMulColumns in parallel.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/buffer.h"
#include "core/matrix.h"
#include "core/status.h"
#include "core/thread_team.h"

namespace thermocline {

inline constexpr int64_t kColumnBlock = 32;  // columns
inline constexpr int64_t kChunkRows = 128;   // a line of 64 bytes of 4-bit codes

// What the parts of a matrix take for each of its rows.
struct ColumnLayout {
  int64_t code_bits = 0;      // of one weight: 4, 8, or a plain float's 16 or 32
  int64_t scale_bytes = 0;    // of a block of 32 columns
  int64_t super_bytes = 0;    // of 256 columns; 0: the type has no such scales
  int64_t group_columns = 0;  // that one scale covers: 32 or 16
  int64_t row_bytes = 0;      // of all columns
  int64_t stride_rows = 0;    // with the padding

  int64_t block_bytes() const { return scale_bytes + kColumnBlock * code_bits / 8; }
};

// Whether products of the type can skip columns: of every type there is, so far.
bool HasColumns(ElementType type);
// Of a (rows, cols) matrix, whole blocks of a type that has columns.
ColumnLayout ColumnLayoutOf(ElementType type, int64_t rows, int64_t cols);

// Borrows a (rows, cols) matrix.
struct ColumnView {
  const std::byte* data = nullptr;
  ElementType type = ElementType::kQ8_0;
  int64_t rows = 0;
  int64_t cols = 0;
  ColumnLayout layout;

  int64_t chunks() const { return (rows + kChunkRows - 1) / kChunkRows; }
  int64_t groups() const { return (cols + layout.group_columns - 1) / layout.group_columns; }
  int64_t size_bytes() const { return layout.stride_rows * layout.row_bytes; }
};

// What a product reads that needs so many columns, the scales of every block counted.
int64_t ColumnBytes(const ColumnView& w, int64_t n_columns);

// Owns one.
class ColumnMatrix {
 public:
  ColumnMatrix() = default;
  // Copies w, whose type has columns. ResourceExhausted when the memory is not to be had.
  static absl::StatusOr<ColumnMatrix> Create(const ThreadTeam& team, const WeightView& w);

  const ColumnView& view() const { return view_; }
  bool empty() const { return view_.data == nullptr; }

 private:
  AlignedBuffer storage_;
  ColumnView view_;
};

}  // namespace thermocline
