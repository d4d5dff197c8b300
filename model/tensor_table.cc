// TensorTable: names to tensors, with the checks of shape and type that binding a weight needs.
// SPDX-License-Identifier: Apache-2.0
#include "model/tensor_table.h"

#include <absl/strings/string_view.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>

#include "core/checked.h"
#include "core/half.h"
#include "model/printable.h"

namespace thermocline {
namespace {

absl::string_view Key(std::string_view name) { return {name.data(), name.size()}; }

template <typename Stored, typename Convert>
void Expand(std::span<const std::byte> bytes, std::span<float> values, Convert convert) {
  for (size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = convert(stored);
  }
}

}  // namespace

absl::Status TensorTable::CheckNew(std::string_view name, std::string_view file) const {
  if (name.empty()) return InvalidArgument("{}: a tensor's name is empty, the least length is 1", file);
  if (Contains(name)) {
    return InvalidArgument("{}: tensor '{}' is given twice, the limit is once", file, Printable(name));
  }
  return absl::OkStatus();
}

absl::Status TensorTable::Add(TensorInfo tensor) {
  TC_RETURN_IF_ERROR(CheckNew(tensor.name, tensor.file));
  index_.emplace(tensor.name, tensors_.size());
  tensors_.push_back(std::move(tensor));
  return absl::OkStatus();
}

absl::Status TensorTable::AddUnreadable(std::string_view name, std::string_view type, std::string_view file,
                                        std::vector<int64_t> shape, std::span<const std::byte> bytes) {
  TC_RETURN_IF_ERROR(CheckNew(name, file));
  unreadable_.emplace(std::string(name),
                      Unreadable{std::string(type), std::string(file), std::move(shape), bytes});
  return absl::OkStatus();
}

const TensorInfo* TensorTable::Find(std::string_view name) const {
  const auto found = index_.find(Key(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

bool TensorTable::Contains(std::string_view name) const {
  return index_.contains(Key(name)) || unreadable_.contains(Key(name));
}

absl::StatusOr<const TensorInfo*> TensorTable::Require(std::string_view name,
                                                       const std::vector<int64_t>& shape) const {
  const TensorInfo* tensor = Find(name);
  if (tensor == nullptr) {
    const auto unreadable = unreadable_.find(Key(name));
    if (unreadable == unreadable_.end()) {
      return NotFound("{}: tensor '{}' is missing, its shape would be [{}]", source_, Printable(name),
                      fmt::join(shape, ", "));
    }
    return InvalidArgument("{}: tensor '{}' has type {}, which is not supported", unreadable->second.file,
                           Printable(name), unreadable->second.type);
  }
  if (tensor->shape != shape) {
    return InvalidArgument("{}: tensor '{}' must have shape [{}], found [{}]", tensor->file, Printable(name),
                           fmt::join(shape, ", "), fmt::join(tensor->shape, ", "));
  }
  return tensor;
}

absl::StatusOr<WeightView> TensorTable::Matrix(std::string_view name, int64_t rows, int64_t cols) const {
  TC_ASSIGN_OR_RETURN(const TensorInfo* tensor, Require(name, {rows, cols}));
  const auto row_bytes = RowBytes(tensor->type, cols);
  if (!row_bytes.ok()) {
    return InvalidArgument("{}: tensor '{}' of shape [{}]: {}", tensor->file, Printable(name),
                           fmt::join(tensor->shape, ", "), std::string(row_bytes.status().message()));
  }
  const auto bytes = CheckedMul(static_cast<uint64_t>(*row_bytes), static_cast<uint64_t>(rows));
  if (!bytes || *bytes != tensor->bytes.size()) {
    return InvalidArgument("{}: tensor '{}' has {} bytes, its shape needs {}", tensor->file, Printable(name),
                           tensor->bytes.size(), bytes.value_or(UINT64_MAX));
  }
  return WeightView{tensor->bytes.data(), tensor->type, rows, cols, *row_bytes};
}

absl::StatusOr<std::vector<float>> TensorTable::Vector(std::string_view name, int64_t size) const {
  TC_ASSIGN_OR_RETURN(const TensorInfo* tensor, Require(name, {size}));
  const ElementTypeInfo& type = InfoOf(tensor->type);
  if (type.quantized()) {
    return InvalidArgument("{}: tensor '{}' is a vector of type {}, expected F32, F16 or BF16", tensor->file,
                           Printable(name), type.name);
  }
  const auto bytes = CheckedMul(static_cast<uint64_t>(size), static_cast<uint64_t>(type.block_bytes));
  if (!bytes || *bytes != tensor->bytes.size()) {
    return InvalidArgument("{}: tensor '{}' has {} bytes, its shape needs {}", tensor->file, Printable(name),
                           tensor->bytes.size(), bytes.value_or(UINT64_MAX));
  }
  std::vector<float> values(static_cast<size_t>(size));
  switch (tensor->type) {
    case ElementType::kF32:
      Expand<float>(tensor->bytes, values, [](float value) { return value; });
      break;
    case ElementType::kF16:
      Expand<uint16_t>(tensor->bytes, values, HalfToFloat);
      break;
    case ElementType::kBF16:
      Expand<uint16_t>(tensor->bytes, values, BFloat16ToFloat);
      break;
    default:
      return Unimplemented("{}: tensor '{}': vectors of type {}", tensor->file, Printable(name), type.name);
  }
  return values;
}

absl::StatusOr<std::span<const std::byte>> TensorTable::Packed(std::string_view name, std::string_view type,
                                                               const std::vector<int64_t>& shape) const {
  const auto found = unreadable_.find(Key(name));
  if (found == unreadable_.end()) {
    TC_ASSIGN_OR_RETURN(const TensorInfo* tensor,
                        Require(name, shape));  // says if it is missing or misshapen
    return InvalidArgument("{}: tensor '{}' of shape [{}] has type {}, expected {}", tensor->file,
                           Printable(name), fmt::join(shape, ", "), InfoOf(tensor->type).name, type);
  }
  const Unreadable& tensor = found->second;
  uint64_t size = 1;
  for (const int64_t dimension : shape) size *= static_cast<uint64_t>(dimension);
  if (tensor.type != type || tensor.shape != shape || tensor.bytes.size() != size) {
    return InvalidArgument("{}: tensor '{}' must have type {} and shape [{}], found {} and [{}]", tensor.file,
                           Printable(name), type, fmt::join(shape, ", "), tensor.type,
                           fmt::join(tensor.shape, ", "));
  }
  return tensor.bytes;
}

int64_t TensorTable::total_bytes() const {
  int64_t total = 0;
  for (const TensorInfo& tensor : tensors_) total += static_cast<int64_t>(tensor.bytes.size());
  return total;
}

std::vector<ElementType> TensorTable::TypesByBytes() const {
  std::map<ElementType, size_t> bytes;
  for (const TensorInfo& tensor : tensors_) bytes[tensor.type] += tensor.bytes.size();
  std::vector<ElementType> types;
  for (const auto& [type, size] : bytes) types.push_back(type);
  std::ranges::stable_sort(types, std::ranges::greater(), [&](ElementType type) { return bytes[type]; });
  return types;
}

}  // namespace thermocline
