// AlignedBuffer over aligned_alloc, with huge pages advised for large blocks.
// SPDX-License-Identifier: Apache-2.0
#include "core/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/checked.h"

namespace thermocline {
namespace {
constexpr int64_t kSmallAlignment = 64;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int64_t kHugePageThresholdBytes = 2 * kHugePageBytes;
}  // namespace

absl::StatusOr<AlignedBuffer> AlignedBuffer::Create(int64_t size_bytes) {
  TC_CHECK(size_bytes >= 0);
  AlignedBuffer buffer;
  if (size_bytes == 0) return buffer;
  const bool huge = size_bytes >= kHugePageThresholdBytes;
  const auto alignment = static_cast<uint64_t>(huge ? kHugePageBytes : kSmallAlignment);
  const auto padded = CheckedAlignUp(static_cast<uint64_t>(size_bytes), alignment);
  void* memory = padded ? std::aligned_alloc(alignment, *padded) : nullptr;
  if (memory == nullptr) return ResourceExhausted("cannot allocate {} bytes", size_bytes);
  if (huge) madvise(memory, *padded, MADV_HUGEPAGE);
  std::memset(memory, 0, *padded);
  buffer.data_ = static_cast<std::byte*>(memory);
  buffer.size_bytes_ = size_bytes;
  return buffer;
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  if (this != &other) {
    std::free(data_);
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

AlignedBuffer::~AlignedBuffer() { std::free(data_); }

}  // namespace thermocline
