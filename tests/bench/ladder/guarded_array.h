// GuardedArray: an array that ends at a page nobody may touch, so that whatever passes its end faults.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "core/status.h"

namespace thermocline::ladder {

// `count` zeros of type T, no bytes past the last but what `alignment` (of the first; a power of two) needs.
template <typename T>
class GuardedArray {
 public:
  // ResourceExhausted, naming the size, when the memory is not to be had.
  static absl::StatusOr<GuardedArray> Create(int64_t count, int64_t alignment = alignof(T)) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    const int64_t bytes = RoundUp(count * static_cast<int64_t>(sizeof(T)), alignment);
    GuardedArray array;
    array.mapped_bytes_ = RoundUp(bytes, page) + page;
    void* mapped = mmap(nullptr, static_cast<size_t>(array.mapped_bytes_), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return ResourceExhausted("no memory for an array of {} bytes", bytes);
    array.mapped_ = static_cast<std::byte*>(mapped);
    const int64_t usable = array.mapped_bytes_ - page;
    if (mprotect(array.mapped_ + usable, static_cast<size_t>(page), PROT_NONE) != 0)
      return Internal("the page behind an array cannot be protected");
    // Best effort: where there are no huge pages, there are small ones.
    madvise(mapped, static_cast<size_t>(usable), MADV_HUGEPAGE);
    array.data_ = reinterpret_cast<T*>(array.mapped_ + usable - bytes);
    array.count_ = count;
    return array;
  }

  GuardedArray() = default;
  GuardedArray(GuardedArray&& other) noexcept { *this = std::move(other); }
  GuardedArray& operator=(GuardedArray&& other) noexcept {
    std::swap(mapped_, other.mapped_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
    return *this;
  }
  GuardedArray(const GuardedArray&) = delete;
  GuardedArray& operator=(const GuardedArray&) = delete;
  ~GuardedArray() {
    if (mapped_ != nullptr) munmap(mapped_, static_cast<size_t>(mapped_bytes_));
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  std::span<T> span() { return {data_, static_cast<size_t>(count_)}; }
  std::span<const T> span() const { return {data_, static_cast<size_t>(count_)}; }

 private:
  static int64_t RoundUp(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
  }

  std::byte* mapped_ = nullptr;
  int64_t mapped_bytes_ = 0;
  T* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace thermocline::ladder
