// TensorTable: the named tensors of a model file or folder, borrowed from its mappings.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <absl/container/flat_hash_map.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/element_type.h"
#include "core/mapped_file.h"
#include "core/matrix.h"
#include "core/status.h"

namespace thermocline {

struct TensorInfo {
  std::string name;
  std::string file;  // for messages
  ElementType type = ElementType::kF32;
  std::vector<int64_t> shape;  // outermost first: a (rows, cols) matrix is {rows, cols}; every dimension >= 1
  std::span<const std::byte> bytes;  // exactly the tensor's bytes; no alignment promised
};

class TensorTable {
 public:
  explicit TensorTable(std::string source) : source_(std::move(source)) {}

  // Takes the mapping that added tensors borrow from.
  void Keep(MappedFile file) { files_.push_back(std::make_unique<MappedFile>(std::move(file))); }
  // InvalidArgument on a duplicate name.
  absl::Status Add(TensorInfo tensor);
  // A tensor that is in the file but of a type that cannot be read ("I64"): refused only when it is asked
  // for. InvalidArgument on a duplicate name.
  absl::Status AddUnreadable(std::string_view name, std::string_view type, std::string_view file,
                             std::vector<int64_t> shape = {}, std::span<const std::byte> bytes = {});

  // Null also for an unreadable tensor.
  const TensorInfo* Find(std::string_view name) const;
  bool Contains(std::string_view name) const;  // readable or not
  // NotFound naming source and tensor; InvalidArgument naming tensor, expected and found shape, or its type
  // where that is unreadable.
  absl::StatusOr<WeightView> Matrix(std::string_view name, int64_t rows, int64_t cols) const;
  // The same for a vector, expanded to F32 (norm weights). Quantised vectors are InvalidArgument.
  absl::StatusOr<std::vector<float>> Vector(std::string_view name, int64_t size) const;

  // The bytes of a tensor of an unreadable type of one byte an element ("U8"), whose meaning the caller
  // knows. NotFound and InvalidArgument as above.
  absl::StatusOr<std::span<const std::byte>> Packed(std::string_view name, std::string_view type,
                                                    const std::vector<int64_t>& shape) const;

  // Element types of the tensors, those that hold most bytes first.
  std::vector<ElementType> TypesByBytes() const;

  const std::string& source() const { return source_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const std::vector<std::unique_ptr<MappedFile>>& files() const { return files_; }
  int64_t total_bytes() const;  // of all readable tensors

 private:
  struct Unreadable {
    std::string type;
    std::string file;
    std::vector<int64_t> shape;
    std::span<const std::byte> bytes;
  };
  absl::Status CheckNew(std::string_view name, std::string_view file) const;
  absl::StatusOr<const TensorInfo*> Require(std::string_view name, const std::vector<int64_t>& shape) const;

  std::string source_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<TensorInfo> tensors_;
  absl::flat_hash_map<std::string, size_t> index_;  // into tensors_
  absl::flat_hash_map<std::string, Unreadable> unreadable_;
};

}  // namespace thermocline
