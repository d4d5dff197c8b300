// Whole files by write, fsync and rename.
// SPDX-License-Identifier: Apache-2.0
#include "core/replace_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace thermocline {
namespace {

absl::Status CannotBeWritten(const std::string& path, int error) {
  return FailedPrecondition("{}: cannot be written: {}", path, std::strerror(error));
}

// Makes the rename itself last. Some file systems cannot, which costs no data: old or new, the file is whole.
void SyncFolderOf(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const int descriptor = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  static_cast<void>(fsync(descriptor));
  close(descriptor);
}

}  // namespace

absl::StatusOr<FileReplacement> FileReplacement::Create(std::string path) {
  std::string partial = fmt::format("{}.{}.partial", path, getpid());
  const int descriptor = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return CannotBeWritten(path, errno);
  return FileReplacement(std::move(path), std::move(partial), descriptor, /*stays=*/false);
}

absl::StatusOr<FileReplacement> FileReplacement::Resume(std::string path, uint64_t kept_bytes) {
  std::string partial = path + ".partial";
  const int descriptor = open(partial.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) return CannotBeWritten(path, errno);
  FileReplacement file(std::move(path), std::move(partial), descriptor, /*stays=*/true);
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return CannotBeWritten(file.path_, errno);
    return FailedPrecondition("{}: another process is writing it", file.partial_);
  }
  struct stat info {};
  if (fstat(descriptor, &info) != 0) return CannotBeWritten(file.path_, errno);
  if (static_cast<uint64_t>(info.st_size) < kept_bytes) {
    return FailedPrecondition("{}: has {} bytes, expected at least {}", file.partial_, info.st_size,
                              kept_bytes);
  }
  const auto kept = static_cast<off_t>(kept_bytes);
  if (ftruncate(descriptor, kept) != 0 || lseek(descriptor, kept, SEEK_SET) != kept) {
    return CannotBeWritten(file.path_, errno);
  }
  return file;
}

FileReplacement::FileReplacement(std::string path, std::string partial, int descriptor, bool stays)
    : path_(std::move(path)), partial_(std::move(partial)), descriptor_(descriptor), stays_(stays) {}

FileReplacement::FileReplacement(FileReplacement&& other) noexcept
    : path_(std::move(other.path_)),
      partial_(std::move(other.partial_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      stays_(other.stays_) {}

FileReplacement::~FileReplacement() { Discard(); }

void FileReplacement::Discard() {
  if (descriptor_ < 0) return;
  close(std::exchange(descriptor_, -1));
  if (!stays_) unlink(partial_.c_str());
}

absl::Status FileReplacement::Sync() {
  TC_CHECK(descriptor_ >= 0);
  return fdatasync(descriptor_) == 0 ? absl::OkStatus() : CannotBeWritten(path_, errno);
}

absl::Status FileReplacement::Write(std::string_view bytes) {
  TC_CHECK(descriptor_ >= 0);
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return CannotBeWritten(path_, errno);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status FileReplacement::Commit() {
  TC_CHECK(descriptor_ >= 0);
  int error = fsync(descriptor_) == 0 ? 0 : errno;
  if (close(std::exchange(descriptor_, -1)) != 0 && error == 0) error = errno;
  if (error == 0 && std::rename(partial_.c_str(), path_.c_str()) != 0) error = errno;
  if (error != 0) {
    if (!stays_) unlink(partial_.c_str());
    return CannotBeWritten(path_, error);
  }
  SyncFolderOf(path_);
  return absl::OkStatus();
}

absl::Status ReplaceFile(const std::string& path, std::string_view bytes) {
  TC_ASSIGN_OR_RETURN(FileReplacement file, FileReplacement::Create(path));
  TC_RETURN_IF_ERROR(file.Write(bytes));
  return file.Commit();
}

}  // namespace thermocline
