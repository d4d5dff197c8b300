// AlignedBuffer: owned bytes at cache-line (large ones: huge-page) alignment.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/status.h"

namespace thermocline {

// Owns zero-initialised memory. Move-only. Data is aligned to 64 bytes; from kLargeBytes on it is memory of
// its own from the system, aligned to 2 MiB with huge pages advised.
class AlignedBuffer {
 public:
  static constexpr int64_t kLargeBytes = int64_t{4} << 20;

  AlignedBuffer() = default;
  // ResourceExhausted, naming the size, when the memory is not to be had. Every page is there on return, so
  // that who uses it does not wait for one.
  static absl::StatusOr<AlignedBuffer> Create(int64_t size_bytes);
  // The same for who fills the buffer at once: pages of large ones come with the first write to each, near
  // the thread that makes it.
  static absl::StatusOr<AlignedBuffer> CreateToFill(int64_t size_bytes);

  AlignedBuffer(AlignedBuffer&& other) noexcept;
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer();

  std::byte* data() { return data_; }
  const std::byte* data() const { return data_; }
  int64_t size_bytes() const { return size_bytes_; }
  std::span<std::byte> bytes() { return {data_, static_cast<size_t>(size_bytes_)}; }
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_bytes_)}; }

 private:
  void Free();

  std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

}  // namespace thermocline
