// MappedFile over mmap; whole-file reads; SHA-256 through OpenSSL.
// SPDX-License-Identifier: Apache-2.0
#include "core/mapped_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace thermocline {
namespace {

absl::Status OpenError(const std::string& path, int error) {
  if (error == ENOENT || error == ENOTDIR) return NotFound("{}: no such file", path);
  return FailedPrecondition("{}: {}", path, std::strerror(error));
}

}  // namespace

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return OpenError(path, errno);
  struct stat info {};
  void* memory = MAP_FAILED;
  absl::Status status;
  if (fstat(descriptor, &info) != 0) {
    status = OpenError(path, errno);
  } else if (!S_ISREG(info.st_mode)) {
    status = InvalidArgument("{}: not a regular file", path);
  } else if (info.st_size == 0) {
    status = InvalidArgument("{}: the file is empty", path);
  } else {
    memory = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (memory == MAP_FAILED) status = OpenError(path, errno);
  }
  close(descriptor);
  if (!status.ok()) return status;
  MappedFile file;
  file.path_ = path;
  file.bytes_ = {static_cast<const std::byte*>(memory), static_cast<size_t>(info.st_size)};
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::Release() const {
  // A hint, whose failure costs nothing but the memory.
  if (!bytes_.empty())
    static_cast<void>(madvise(const_cast<std::byte*>(bytes_.data()), bytes_.size(), MADV_DONTNEED));
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, int64_t limit_bytes) {
  TC_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  if (file.bytes().size() > static_cast<size_t>(limit_bytes)) {
    return ResourceExhausted("{}: {} bytes, the limit is {}", path, file.bytes().size(), limit_bytes);
  }
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

std::string Sha256Hex(std::span<const std::byte> bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned int length = 0;
  TC_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1);
  std::string hex;
  for (unsigned int i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

}  // namespace thermocline
