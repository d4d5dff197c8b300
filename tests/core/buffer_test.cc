// Alignment, zeroing and ownership of buffers; addressing of views.
// SPDX-License-Identifier: Apache-2.0
#include "core/buffer.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/matrix.h"

namespace thermocline {
namespace {

TEST(AlignedBuffer, IsAlignedAndZero) {
  for (const int64_t size : {int64_t{1}, int64_t{100}, int64_t{5} << 20}) {
    AlignedBuffer buffer = *AlignedBuffer::Create(size);
    EXPECT_EQ(buffer.size_bytes(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    EXPECT_TRUE(std::ranges::all_of(buffer.bytes(), [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST(AlignedBuffer, MovesLeaveNothingBehind) {
  AlignedBuffer a = *AlignedBuffer::Create(64);
  const std::byte* data = a.data();
  AlignedBuffer b = std::move(a);
  EXPECT_EQ(b.data(), data);
  EXPECT_EQ(a.data(), nullptr);  // NOLINT(bugprone-use-after-move): that it is empty is the point
  a = std::move(b);
  EXPECT_EQ(a.data(), data);
}

TEST(AlignedBuffer, AbsurdSizeIsRefused) {
  EXPECT_EQ(AlignedBuffer::Create(INT64_MAX).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(Matrix, ViewsAddressRowsAndColumns) {
  Matrix<float> matrix = *Matrix<float>::Create(3, 4);
  for (int r = 0; r < 3; ++r)
    for (int c = 0; c < 4; ++c) matrix.row(r)[c] = static_cast<float>(10 * r + c);
  const MatrixView<const float> part = MatrixView<const float>(matrix.view()).Rows(1, 2).Columns(2, 2);
  EXPECT_EQ(part.rows, 2);
  EXPECT_EQ(part.row(1)[1], 23.0f);
}

}  // namespace
}  // namespace thermocline
