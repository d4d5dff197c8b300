// GGUF v3, little-endian, as a stream.
// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_writer.h"

#include <cstring>
#include <optional>

#include "core/checked.h"
#include "core/mapped_file.h"
#include "model/ggml_type.h"
#include "model/printable.h"

namespace thermocline {
namespace {

constexpr uint64_t kAlignment = 32;  // the format's default, so that no key has to tell it
constexpr size_t kMostNameBytes = 255;
constexpr size_t kMostDimensions = 4;

enum ValueType : uint32_t { kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9 };

template <typename T>
void Put(std::string& bytes, T number) {
  const size_t end = bytes.size();
  bytes.resize(end + sizeof number);
  std::memcpy(bytes.data() + end, &number, sizeof number);
}

void PutString(std::string& bytes, std::string_view text) {
  Put<uint64_t>(bytes, text.size());
  bytes += text;
}

template <typename T>
void PutArray(std::string& bytes, ValueType type, std::span<const T> values) {
  Put<uint32_t>(bytes, type);
  Put<uint64_t>(bytes, values.size());
  for (const T& value : values) Put(bytes, value);
}

std::string Padding(uint64_t size) {
  return std::string((kAlignment - size % kAlignment) % kAlignment, '\0');
}

// Bytes of a tensor, or what is wrong with its shape.
absl::StatusOr<uint64_t> SizeOf(std::string_view name, std::span<const int64_t> shape, ElementType type) {
  if (shape.empty() || shape.size() > kMostDimensions) {
    return InvalidArgument("tensor '{}' has {} dimensions, the limit is 1 to {}", Printable(name),
                           shape.size(), kMostDimensions);
  }
  for (const int64_t dimension : shape) {
    if (dimension < 1)
      return InvalidArgument("tensor '{}' has a dimension of {}, the least is 1", Printable(name), dimension);
  }
  const auto row_bytes = RowBytes(type, shape.back());
  if (!row_bytes.ok())
    return InvalidArgument("tensor '{}': {}", Printable(name), MessageOf(row_bytes.status()));
  std::optional<uint64_t> size = static_cast<uint64_t>(*row_bytes);
  for (const int64_t dimension : shape.first(shape.size() - 1)) {
    if (size) size = CheckedMul(*size, static_cast<uint64_t>(dimension));
  }
  if (!size) return InvalidArgument("tensor '{}' needs more than 2^64 bytes", Printable(name));
  return *size;
}

}  // namespace

std::string& GgufHeader::Pair(std::string_view key, uint32_t type) {
  ++pair_count_;
  PutString(pairs_, key);
  Put(pairs_, type);
  return pairs_;
}

GgufHeader& GgufHeader::AddString(std::string_view key, std::string_view value) {
  PutString(Pair(key, kString), value);
  return *this;
}

GgufHeader& GgufHeader::AddUint(std::string_view key, uint32_t value) {
  Put(Pair(key, kUint32), value);
  return *this;
}

GgufHeader& GgufHeader::AddFloat(std::string_view key, float value) {
  Put(Pair(key, kFloat32), value);
  return *this;
}

GgufHeader& GgufHeader::AddBool(std::string_view key, bool value) {
  Put<uint8_t>(Pair(key, kBool), value);
  return *this;
}

GgufHeader& GgufHeader::AddStrings(std::string_view key, std::span<const std::string> values) {
  std::string& bytes = Pair(key, kArray);
  Put<uint32_t>(bytes, kString);
  Put<uint64_t>(bytes, values.size());
  for (const std::string& value : values) PutString(bytes, value);
  return *this;
}

GgufHeader& GgufHeader::AddFloats(std::string_view key, std::span<const float> values) {
  PutArray(Pair(key, kArray), kFloat32, values);
  return *this;
}

GgufHeader& GgufHeader::AddInts(std::string_view key, std::span<const int32_t> values) {
  PutArray(Pair(key, kArray), kInt32, values);
  return *this;
}

GgufHeader& GgufHeader::AddBools(std::string_view key, const std::vector<bool>& values) {
  std::string& bytes = Pair(key, kArray);
  Put<uint32_t>(bytes, kBool);
  Put<uint64_t>(bytes, values.size());
  for (const bool value : values) Put<uint8_t>(bytes, value);
  return *this;
}

GgufHeader& GgufHeader::AddRaw(std::string_view key, std::span<const std::byte> value) {
  ++pair_count_;
  PutString(pairs_, key);
  pairs_.append(reinterpret_cast<const char*>(value.data()), value.size());
  return *this;
}

absl::Status GgufHeader::AddTensor(std::string_view name, std::span<const int64_t> shape, ElementType type) {
  if (name.empty() || name.size() > kMostNameBytes) {
    return InvalidArgument("a tensor's name has {} bytes, the limit is 1 to {}", name.size(), kMostNameBytes);
  }
  TC_ASSIGN_OR_RETURN(const uint64_t size, SizeOf(name, shape, type));
  auto end = CheckedAdd(data_bytes_, size);
  if (end) end = CheckedAlignUp(*end, kAlignment);
  if (!end || *end > static_cast<uint64_t>(INT64_MAX)) {
    return InvalidArgument("tensor '{}' makes the file longer than the limit of 2^63 bytes", Printable(name));
  }
  PutString(descriptions_, name);
  Put(descriptions_, static_cast<uint32_t>(shape.size()));
  for (size_t i = shape.size(); i-- > 0;) Put(descriptions_, static_cast<uint64_t>(shape[i]));
  Put(descriptions_, GgmlIdOf(type));
  Put(descriptions_, data_bytes_);
  data_bytes_ = *end;
  tensors_.push_back({std::string(name), size});
  return absl::OkStatus();
}

std::string GgufHeader::Bytes() const {
  std::string bytes = "GGUF";
  Put<uint32_t>(bytes, 3);
  Put<uint64_t>(bytes, tensors_.size());
  Put(bytes, pair_count_);
  bytes += pairs_;
  bytes += descriptions_;
  bytes += Padding(bytes.size());
  return bytes;
}

absl::StatusOr<GgufFileWriter> GgufFileWriter::Create(const std::string& path, const GgufHeader& header) {
  TC_ASSIGN_OR_RETURN(FileReplacement file, FileReplacement::Create(path));
  TC_RETURN_IF_ERROR(file.Write(header.Bytes()));
  return GgufFileWriter(std::move(file), header.tensors_);
}

absl::StatusOr<GgufFileWriter> GgufFileWriter::Resume(const std::string& path, const GgufHeader& header,
                                                      size_t tensors_done) {
  TC_CHECK(tensors_done <= header.tensors_.size());
  const std::string bytes = header.Bytes();
  uint64_t kept_bytes = tensors_done == 0 ? 0 : bytes.size();
  for (size_t i = 0; i < tensors_done; ++i) {
    const uint64_t size = header.tensors_[i].size_bytes;
    kept_bytes += size + Padding(size).size();
  }
  if (tensors_done > 0) {  // before anything is cut off
    const std::string partial = path + ".partial";
    TC_ASSIGN_OR_RETURN(const MappedFile found, MappedFile::Open(partial));
    const std::string_view start(reinterpret_cast<const char*>(found.bytes().data()), found.bytes().size());
    if (!start.starts_with(bytes))
      return FailedPrecondition("{}: does not start as the file that is to be written", partial);
  }
  TC_ASSIGN_OR_RETURN(FileReplacement file, FileReplacement::Resume(path, kept_bytes));
  if (tensors_done == 0) TC_RETURN_IF_ERROR(file.Write(bytes));
  GgufFileWriter writer(std::move(file), header.tensors_);
  writer.current_ = tensors_done;
  return writer;
}

absl::Status GgufFileWriter::Append(std::span<const std::byte> bytes) {
  if (bytes.empty()) return absl::OkStatus();
  if (current_ == tensors_.size()) {
    return OutOfRange("{}: {} bytes more than its {} tensors have", file_.path(), bytes.size(),
                      tensors_.size());
  }
  const GgufHeader::Tensor& tensor = tensors_[current_];
  if (bytes.size() > tensor.size_bytes - current_bytes_) {
    return OutOfRange("{}: tensor '{}': {} bytes after {}, the limit is {}", file_.path(),
                      Printable(tensor.name), bytes.size(), current_bytes_, tensor.size_bytes);
  }
  TC_RETURN_IF_ERROR(file_.Write({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  current_bytes_ += bytes.size();
  if (current_bytes_ < tensor.size_bytes) return absl::OkStatus();
  ++current_;
  current_bytes_ = 0;
  return file_.Write(Padding(tensor.size_bytes));
}

absl::Status GgufFileWriter::Finish() {
  if (current_ < tensors_.size()) {
    return FailedPrecondition("{}: tensor '{}' has {} bytes of {}", file_.path(),
                              Printable(tensors_[current_].name), current_bytes_,
                              tensors_[current_].size_bytes);
  }
  return file_.Commit();
}

}  // namespace thermocline
