// Whole files, written so that whoever reads the path sees the old one or the new one.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/status.h"

namespace thermocline {

// A file that is written bit by bit beside `path` and takes its place at once.
class FileReplacement {
 public:
  // FailedPrecondition naming path and reason, as from all of these.
  static absl::StatusOr<FileReplacement> Create(std::string path);
  // The same in a file called PATH.partial, which stays where there is no Commit, so that a later call goes
  // on behind its first `kept_bytes`; what lies behind them is cut off. Only one process at a time holds it.
  static absl::StatusOr<FileReplacement> Resume(std::string path, uint64_t kept_bytes);
  FileReplacement(FileReplacement&& other) noexcept;
  FileReplacement& operator=(FileReplacement&&) = delete;
  // Without a Commit that succeeded the old file is whole, and nothing is left beside it unless it was
  // resumed.
  ~FileReplacement();

  absl::Status Write(std::string_view bytes);
  // Forces what was written to the disk.
  absl::Status Sync();
  // Forces what was written to the disk and renames it over the path. Once.
  absl::Status Commit();

  const std::string& path() const { return path_; }
  const std::string& partial_path() const { return partial_; }  // where the bytes lie until Commit

 private:
  FileReplacement(std::string path, std::string partial, int descriptor, bool stays);
  void Discard();

  std::string path_;
  std::string partial_;
  int descriptor_ = -1;  // -1: committed, discarded or moved from
  bool stays_ = false;   // without Commit
};

// Writes `bytes` to a file beside `path`, forces it to the disk and renames it over `path`. On failure the
// old file is whole, nothing is left beside it, and the error names the path and the reason.
absl::Status ReplaceFile(const std::string& path, std::string_view bytes);

}  // namespace thermocline
