// GgufFileWriter: streams a GGUF v3 file, so that a model of any size is written with little memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/element_type.h"
#include "core/replace_file.h"
#include "core/status.h"

namespace thermocline {

// What comes before the tensors' data: metadata, and which tensors there will be. Entries are written in the
// order in which they were added.
class GgufHeader {
 public:
  GgufHeader& AddString(std::string_view key, std::string_view value);
  GgufHeader& AddUint(std::string_view key, uint32_t value);
  GgufHeader& AddFloat(std::string_view key, float value);
  GgufHeader& AddBool(std::string_view key, bool value);
  GgufHeader& AddStrings(std::string_view key, std::span<const std::string> values);
  GgufHeader& AddFloats(std::string_view key, std::span<const float> values);
  GgufHeader& AddInts(std::string_view key, std::span<const int32_t> values);
  GgufHeader& AddBools(std::string_view key, const std::vector<bool>& values);
  // As another file has it: `value` is the value's type and the value.
  GgufHeader& AddRaw(std::string_view key, std::span<const std::byte> value);

  // shape: outermost first. InvalidArgument naming the tensor for an empty name or one above 255 bytes, 0 or
  // more than 4 dimensions, a dimension below 1, rows that are no multiple of the type's block, and sizes
  // that overflow.
  absl::Status AddTensor(std::string_view name, std::span<const int64_t> shape, ElementType type);

  // What the file starts with, up to the first tensor's data.
  std::string Bytes() const;
  uint64_t data_bytes() const { return data_bytes_; }  // of all tensors so far, each padded to the alignment

 private:
  friend class GgufFileWriter;
  struct Tensor {
    std::string name;
    uint64_t size_bytes = 0;
  };
  std::string& Pair(std::string_view key, uint32_t type);

  std::string pairs_;  // serialised
  uint64_t pair_count_ = 0;
  std::string descriptions_;  // of the tensors, serialised
  std::vector<Tensor> tensors_;
  uint64_t data_bytes_ = 0;
};

class GgufFileWriter {
 public:
  // Writes the header to a file beside `path`. FailedPrecondition naming path and reason.
  static absl::StatusOr<GgufFileWriter> Create(const std::string& path, const GgufHeader& header);
  // The same in PATH.partial, which stays where the writer does not come to its Finish. Goes on behind the
  // first `tensors_done` tensors that an earlier writer with this header left there; 0 begins anew.
  // FailedPrecondition where the file is shorter, starts otherwise, or is being written by another process.
  static absl::StatusOr<GgufFileWriter> Resume(const std::string& path, const GgufHeader& header,
                                               size_t tensors_done);

  // The next bytes of the tensors, in the header's order; padding is put in between. OutOfRange past the last
  // tensor's end, and where `bytes` reaches over a tensor's end.
  absl::Status Append(std::span<const std::byte> bytes);
  // Forces the file to the disk and renames it over the path. FailedPrecondition naming the first tensor
  // whose bytes are missing. Without it the old file is whole and nothing is left beside it.
  absl::Status Finish();

  absl::Status Sync() { return file_.Sync(); }                              // forces it to the disk
  const std::string& partial_path() const { return file_.partial_path(); }  // where it lies until Finish

 private:
  GgufFileWriter(FileReplacement file, std::vector<GgufHeader::Tensor> tensors)
      : file_(std::move(file)), tensors_(std::move(tensors)) {}

  FileReplacement file_;
  std::vector<GgufHeader::Tensor> tensors_;
  size_t current_ = 0;          // the tensor that Append goes on with
  uint64_t current_bytes_ = 0;  // of it, written
};

}  // namespace thermocline
