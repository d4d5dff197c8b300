// Owner and view of row-major matrices, and the view of weights of any element type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "core/buffer.h"
#include "core/element_type.h"
#include "core/status.h"

namespace thermocline {

// Borrows a (rows, cols) matrix; row r starts at data + r * stride (in elements). Bounds are the caller's
// duty.
template <typename T>
struct MatrixView {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t stride = 0;

  std::span<T> row(int64_t r) const { return {data + r * stride, static_cast<size_t>(cols)}; }
  T* row_data(int64_t r) const { return data + r * stride; }
  MatrixView Rows(int64_t begin, int64_t count) const { return {data + begin * stride, count, cols, stride}; }
  MatrixView Columns(int64_t begin, int64_t count) const { return {data + begin, rows, count, stride}; }
  operator MatrixView<const T>() const  // NOLINT: a mutable view is a const view
      requires(!std::is_const_v<T>) {
    return {data, rows, cols, stride};
  }
};

// Owns a (rows, cols) matrix, zero-initialised, rows packed.
template <typename T>
class Matrix {
 public:
  Matrix() = default;
  static absl::StatusOr<Matrix> Create(int64_t rows, int64_t cols) {
    Matrix matrix;
    TC_ASSIGN_OR_RETURN(matrix.buffer_, AlignedBuffer::Create(rows * cols * static_cast<int64_t>(sizeof(T))));
    matrix.rows_ = rows;
    matrix.cols_ = cols;
    return matrix;
  }

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t size_bytes() const { return buffer_.size_bytes(); }
  T* data() { return reinterpret_cast<T*>(buffer_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(buffer_.data()); }
  MatrixView<T> view() { return {data(), rows_, cols_, cols_}; }
  MatrixView<const T> view() const { return {data(), rows_, cols_, cols_}; }
  std::span<T> row(int64_t r) { return view().row(r); }
  std::span<const T> row(int64_t r) const { return view().row(r); }

 private:
  AlignedBuffer buffer_;
  int64_t rows_ = 0;
  int64_t cols_ = 0;
};

// Borrows a weight matrix: `rows` rows of `cols` elements of `type`, row r at data + r * row_stride_bytes.
// Nothing is assumed of the alignment of data.
struct WeightView {
  const std::byte* data = nullptr;
  ElementType type = ElementType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride_bytes = 0;

  const std::byte* row_data(int64_t r) const { return data + r * row_stride_bytes; }
  // Of the weights, without what lies between rows. The view's columns must be whole blocks of its type.
  int64_t size_bytes() const { return rows * *RowBytes(type, cols); }
  WeightView Rows(int64_t begin, int64_t count) const {
    return {data + begin * row_stride_bytes, type, count, cols, row_stride_bytes};
  }
};

}  // namespace thermocline
