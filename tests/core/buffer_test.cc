// Alignment, zeroing and ownership of buffers; addressing of views.
// SPDX-License-Identifier: Apache-2.0
#include "core/buffer.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "core/matrix.h"

namespace thermocline {
namespace {

TEST(AlignedBuffer, IsAlignedAndZero) {
  constexpr int64_t kLarge = AlignedBuffer::kLargeBytes;
  for (const auto create : {AlignedBuffer::Create, AlignedBuffer::CreateToFill}) {
    for (const int64_t size : {int64_t{1}, int64_t{100}, kLarge - 1, kLarge, kLarge + 1}) {
      AlignedBuffer buffer = *create(size);
      EXPECT_EQ(buffer.size_bytes(), size);
      const auto address = reinterpret_cast<uintptr_t>(buffer.data());
      EXPECT_EQ(address % (size < kLarge ? 64 : 2 << 20), 0u);
      EXPECT_TRUE(std::ranges::all_of(buffer.bytes(), [](std::byte b) { return b == std::byte{0}; }));
      std::ranges::fill(buffer.bytes(), std::byte{1});
    }
  }
}

// Bytes of the buffer that are in memory (mincore).
int64_t ResidentBytes(const AlignedBuffer& buffer) {
  const int64_t page_bytes = sysconf(_SC_PAGESIZE);
  std::vector<unsigned char> pages(static_cast<size_t>(buffer.size_bytes() / page_bytes));
  EXPECT_EQ(
      mincore(const_cast<std::byte*>(buffer.data()), static_cast<size_t>(buffer.size_bytes()), pages.data()),
      0);
  return page_bytes * std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; });
}

TEST(AlignedBuffer, PagesAreThereAtOnceOrWhenFilled) {
  constexpr int64_t kSize = 4 * AlignedBuffer::kLargeBytes;
  EXPECT_EQ(ResidentBytes(*AlignedBuffer::Create(kSize)), kSize);
  AlignedBuffer untouched = *AlignedBuffer::CreateToFill(kSize);
  EXPECT_EQ(ResidentBytes(untouched), 0);
  *untouched.data() = std::byte{1};
  EXPECT_LT(ResidentBytes(untouched), kSize);
  EXPECT_GT(ResidentBytes(untouched), 0);
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
