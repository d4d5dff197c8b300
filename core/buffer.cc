// AlignedBuffer: small ones from the heap, large ones in huge pages from the system.
// SPDX-License-Identifier: Apache-2.0
#include "core/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "core/checked.h"

namespace thermocline {
namespace {

constexpr uint64_t kSmallAlignment = 64;
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
constexpr uint64_t kLeastPageBytes = 4096;

std::byte* AllocateSmall(int64_t size_bytes) {
  const auto padded = *CheckedAlignUp(static_cast<uint64_t>(size_bytes), kSmallAlignment);
  void* memory = std::aligned_alloc(kSmallAlignment, padded);
  if (memory != nullptr) std::memset(memory, 0, padded);
  return static_cast<std::byte*>(memory);
}

// What the system gives is zero already.
std::byte* MapLarge(int64_t size_bytes) {
  const auto padded = CheckedAlignUp(static_cast<uint64_t>(size_bytes), kHugePageBytes);
  const auto mapped = padded ? CheckedAdd(*padded, kHugePageBytes) : std::nullopt;
  if (!mapped) return nullptr;
  void* memory = mmap(nullptr, *mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  // What lies before and behind the aligned part goes back.
  auto* begin = static_cast<std::byte*>(memory);
  const uint64_t before =
      (kHugePageBytes - reinterpret_cast<uintptr_t>(memory) % kHugePageBytes) % kHugePageBytes;
  if (before > 0) munmap(begin, before);
  if (kHugePageBytes > before) munmap(begin + before + *padded, kHugePageBytes - before);
  madvise(begin + before, *padded, MADV_HUGEPAGE);
  return begin + before;
}

}  // namespace

absl::StatusOr<AlignedBuffer> AlignedBuffer::CreateToFill(int64_t size_bytes) {
  TC_CHECK(size_bytes >= 0);
  AlignedBuffer buffer;
  if (size_bytes == 0) return buffer;
  buffer.data_ = size_bytes >= kLargeBytes ? MapLarge(size_bytes) : AllocateSmall(size_bytes);
  if (buffer.data_ == nullptr) return ResourceExhausted("cannot allocate {} bytes", size_bytes);
  buffer.size_bytes_ = size_bytes;
  return buffer;
}

absl::StatusOr<AlignedBuffer> AlignedBuffer::Create(int64_t size_bytes) {
  TC_ASSIGN_OR_RETURN(AlignedBuffer buffer, CreateToFill(size_bytes));
  if (size_bytes < kLargeBytes) return buffer;
  volatile std::byte* const data = buffer.data_;
  for (uint64_t at = 0; at < static_cast<uint64_t>(size_bytes); at += kLeastPageBytes)
    data[at] = std::byte{0};
  return buffer;
}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_bytes_(std::exchange(other.size_bytes_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  if (this != &other) {
    Free();
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

AlignedBuffer::~AlignedBuffer() { Free(); }

void AlignedBuffer::Free() {
  if (size_bytes_ < kLargeBytes) {
    std::free(data_);
  } else {
    munmap(data_, *CheckedAlignUp(static_cast<uint64_t>(size_bytes_), kHugePageBytes));
  }
}

}  // namespace thermocline
