// GgufCursor: reads little-endian numbers and strings from the front of untrusted bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"

namespace thermocline {

static_assert(std::endian::native == std::endian::little, "GGUF numbers are copied as they lie in the file");

// Every read compares its size with the bytes that remain first. `field` names what is read in the error.
class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  template <typename T>
  absl::StatusOr<T> Number(std::string_view field) {
    if (remaining() < sizeof(T)) return Truncated(field, sizeof(T));
    T number;
    std::memcpy(&number, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return number;
  }

  // A 64-bit length and as many bytes. Borrows from the bytes.
  absl::StatusOr<std::string_view> String(std::string_view field, uint64_t limit_bytes) {
    TC_ASSIGN_OR_RETURN(const uint64_t length, Number<uint64_t>(field));
    if (length > remaining()) {
      return InvalidArgument("{}: {}: string length is {}, the limit is the {} bytes that remain", file_,
                             field, length, remaining());
    }
    if (length > limit_bytes) {
      return InvalidArgument("{}: {}: string length is {}, the limit is {}", file_, field, length,
                             limit_bytes);
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + position_, length);
    position_ += length;
    return text;
  }

  // `count` numbers, each widened. The caller has compared count with the bytes that remain.
  template <typename Stored, typename Wide>
  std::vector<Wide> Numbers(uint64_t count) {
    TC_CHECK(count <= remaining() / sizeof(Stored));
    std::vector<Wide> numbers(count);
    for (uint64_t i = 0; i < count; ++i) {
      Stored stored;
      std::memcpy(&stored, bytes_.data() + position_ + i * sizeof(Stored), sizeof(Stored));
      numbers[i] = static_cast<Wide>(stored);
    }
    position_ += count * sizeof(Stored);
    return numbers;
  }

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

 private:
  absl::Status Truncated(std::string_view field, size_t size) const {
    return InvalidArgument(
        "{}: the file ends inside {}: {} bytes are needed at byte {}, the limit is the {} that remain", file_,
        field, size, position_, remaining());
  }

  std::span<const std::byte> bytes_;
  const std::string& file_;
  uint64_t position_ = 0;
};

}  // namespace thermocline
