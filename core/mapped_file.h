// MappedFile: a file mapped read-only into memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "core/status.h"

namespace thermocline {

// Move-only. The bytes stay valid until destruction; the file must not shrink meanwhile.
class MappedFile {
 public:
  MappedFile() = default;
  // NotFound when there is no such file, InvalidArgument for a folder or an empty file, each naming the path.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  // Gives back the memory of what was read so far; whatever is read again comes from the file again.
  void Release() const;

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
};

// The whole of a small file (configuration, prompts). ResourceExhausted above `limit_bytes`.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t limit_bytes);

// Lower-case hexadecimal SHA-256 of the bytes.
std::string Sha256Hex(std::span<const std::byte> bytes);

}  // namespace thermocline
