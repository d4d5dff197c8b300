// ColumnMatrix: weights column by column, so that a product reads only the columns whose activation is not 0.
// SPDX-License-Identifier: Apache-2.0
//
// The rows are cut into strips, one for each thread that packs, of whole chunks of kChunkRows; rows past the
// matrix are zeros. A strip holds its columns in blocks of 32: first the block's scales, then the codes of
// column 0, of column 1, ... of all its rows. A column that is not needed is a run of bytes that nobody
// touches, as long as can be: memory skips long runs better than short ones. Types with scales of their own
// for 256 columns have those before every eighth block. Codes and scales are those of the file, in 4 or in 8
// bits: nothing is rounded again.
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

// What the parts of a strip take for each of its rows.
struct ColumnLayout {
  int64_t code_bits = 0;      // of one weight: 4, 8, or a plain float's 16 or 32
  int64_t scale_bytes = 0;    // of a block of 32 columns
  int64_t super_bytes = 0;    // of 256 columns; 0: the type has no such scales
  int64_t group_columns = 0;  // that one scale covers: 32 or 16
  int64_t row_bytes = 0;      // of all columns
  int64_t strip_rows = 0;     // of a strip, whole chunks; the last strip may have fewer
  int64_t stride_rows = 0;    // that a column of a strip takes room for, from strip_rows on

  int64_t block_bytes() const { return scale_bytes + kColumnBlock * code_bits / 8; }
};

// Every type has columns today; callers ask all the same and keep rows where one has not.
bool HasColumns(ElementType type);
// Of a (rows, cols) matrix, whole blocks of a type that has columns, for so many threads.
ColumnLayout ColumnLayoutOf(ElementType type, int64_t rows, int64_t cols, int threads);

// Borrows a (rows, cols) matrix.
struct ColumnView {
  const std::byte* data = nullptr;
  ElementType type = ElementType::kQ8_0;
  int64_t rows = 0;
  int64_t cols = 0;
  ColumnLayout layout;

  int64_t strips() const { return (rows + layout.strip_rows - 1) / layout.strip_rows; }
  int64_t strip_bytes() const { return layout.stride_rows * layout.row_bytes; }
  int64_t size_bytes() const { return strips() * strip_bytes(); }
  const std::byte* strip(int64_t s) const { return data + s * strip_bytes(); }
};

// What a product reads that needs so many columns, the scales of every block counted.
int64_t ColumnBytes(const ColumnView& w, int64_t n_columns);

// Owns one.
class ColumnMatrix {
 public:
  ColumnMatrix() = default;
  // Copies w, whose type has columns, for products by as many threads: more do not help, and the bits are the
  // same by any number. ResourceExhausted when the memory is not to be had.
  static absl::StatusOr<ColumnMatrix> Create(const ThreadTeam& team, const WeightView& w);

  const ColumnView& view() const { return view_; }
  bool empty() const { return view_.data == nullptr; }

 private:
  AlignedBuffer storage_;
  ColumnView view_;
};

}  // namespace thermocline
