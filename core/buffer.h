// AlignedBuffer: owned bytes at cache-line (large ones: huge-page) alignment.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/status.h"

namespace thermocline {

// Owns zero-initialised memory. Move-only. Data is aligned to 64 bytes, from 4 MiB on to 2 MiB with huge
// pages advised.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // ResourceExhausted, naming the size, when the memory is not to be had.
  static absl::StatusOr<AlignedBuffer> Create(int64_t size_bytes);

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
  std::byte* data_ = nullptr;
  int64_t size_bytes_ = 0;
};

}  // namespace thermocline
