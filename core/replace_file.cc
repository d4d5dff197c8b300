// Whole files by write, fsync and rename.
// SPDX-License-Identifier: Apache-2.0
#include "core/replace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

namespace thermocline {
namespace {

// 0 or the errno of the step that failed.
int WriteAll(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return fsync(descriptor) == 0 ? 0 : errno;
}

int WriteNew(const std::string& path, std::string_view bytes) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (descriptor < 0) return errno;
  const int error = WriteAll(descriptor, bytes);
  return close(descriptor) != 0 && error == 0 ? errno : error;
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

absl::Status ReplaceFile(const std::string& path, std::string_view bytes) {
  const std::string partial = fmt::format("{}.{}.partial", path, getpid());
  int error = WriteNew(partial, bytes);
  if (error == 0 && std::rename(partial.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    unlink(partial.c_str());
    return FailedPrecondition("{}: cannot be written: {}", path, std::strerror(error));
  }
  SyncFolderOf(path);
  return absl::OkStatus();
}

}  // namespace thermocline
