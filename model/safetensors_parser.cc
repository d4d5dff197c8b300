// ParseSafetensors: header and tensor descriptions of one safetensors file.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/checked.h"
#include "model/printable.h"
#include "model/safetensors.h"

namespace thermocline {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the header's length is copied as it lies in the file");

constexpr uint64_t kMostHeaderBytes = 100'000'000;
constexpr size_t kMostDimensions = 8;

struct Described {
  std::string name;
  std::optional<std::string> type;
  std::optional<std::vector<uint64_t>> shape;
  std::optional<std::vector<uint64_t>> offsets;
};

std::optional<ElementType> ReadableType(std::string_view type) {
  if (type == "F32") return ElementType::kF32;
  if (type == "F16") return ElementType::kF16;
  if (type == "BF16") return ElementType::kBF16;
  return std::nullopt;
}

// Reads {name: {dtype, shape, data_offsets}, "__metadata__": {name: text}} and nothing else: any other
// nesting is refused where it starts. Each handler returns false to stop; `error` then says why.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(const std::string& file) : file_(file) {}

  bool null() override { return Unexpected("null"); }
  bool boolean(bool) override { return Unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { return Unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return Unexpected("a number that is no 64-bit integer");
  }
  bool binary(binary_t&) override { return Unexpected("a binary value"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kShape && place_ != Place::kOffsets) return Unexpected("a number");
    std::vector<uint64_t>& list = place_ == Place::kShape ? *tensor().shape : *tensor().offsets;
    const size_t limit = place_ == Place::kShape ? kMostDimensions : 2;
    if (list.size() == limit) {
      return Fail(InvalidArgument("{}: tensor '{}': {} is longer than the limit of {}", file_,
                                  Printable(tensor().name), field_, limit));
    }
    list.push_back(value);
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      metadata_[field_] = std::move(value);
      return true;
    }
    if (place_ != Place::kTensor || field_ != "dtype") return Unexpected("a string");
    tensor().type = std::move(value);
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kHeader;
    } else if (place_ == Place::kHeader) {
      place_ = in_metadata_ ? Place::kMetadata : Place::kTensor;
    } else {
      return Unexpected("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::kHeader) {
      in_metadata_ = name == "__metadata__";
      if (!in_metadata_) {
        tensors_.emplace_back();
        tensor().name = std::move(name);
      } else if (std::exchange(had_metadata_, true)) {
        return Fail(InvalidArgument("{}: '__metadata__' is given twice, the limit is once", file_));
      }
    } else if (place_ == Place::kMetadata) {
      if (metadata_.contains(name)) {
        return Fail(InvalidArgument("{}: '__metadata__' gives '{}' twice, the limit is once", file_,
                                    Printable(name)));
      }
      field_ = std::move(name);
    } else if (place_ == Place::kTensor) {
      if (name != "dtype" && name != "shape" && name != "data_offsets") {
        return Fail(InvalidArgument("{}: tensor '{}' has the unknown field '{}'", file_,
                                    Printable(tensor().name), Printable(name)));
      }
      if (Has(name)) {
        return Fail(InvalidArgument("{}: tensor '{}': {} is given twice, the limit is once", file_,
                                    Printable(tensor().name), name));
      }
      field_ = std::move(name);
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      for (const std::string_view field : {"dtype", "shape", "data_offsets"}) {
        if (!Has(field)) {
          return Fail(InvalidArgument("{}: tensor '{}' lacks {}", file_, Printable(tensor().name), field));
        }
      }
    }
    field_.clear();
    place_ = place_ == Place::kHeader ? Place::kEnd : Place::kHeader;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") return Unexpected("an array");
    place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
    (place_ == Place::kShape ? tensor().shape : tensor().offsets).emplace();
    return true;
  }

  bool end_array() override {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Fail(InvalidArgument("{}: the header is not valid JSON at byte {}", file_, position));
  }

  const absl::Status& error() const { return error_; }
  std::vector<Described>& tensors() { return tensors_; }
  std::map<std::string, std::string>& metadata() { return metadata_; }

 private:
  enum class Place { kStart, kHeader, kMetadata, kTensor, kShape, kOffsets, kEnd };

  Described& tensor() { return tensors_.back(); }

  bool Has(std::string_view field) {
    if (field == "dtype") return tensor().type.has_value();
    return field == "shape" ? tensor().shape.has_value() : tensor().offsets.has_value();
  }

  bool Fail(absl::Status error) {
    error_ = std::move(error);
    return false;
  }

  bool Unexpected(std::string_view what) {
    std::string where = "the header";
    if (in_metadata_ && place_ != Place::kStart) {
      where = "'__metadata__'";
    } else if (!tensors_.empty()) {
      where = fmt::format("tensor '{}'{}{}", Printable(tensor().name), field_.empty() ? "" : ": ", field_);
    }
    return Fail(InvalidArgument("{}: {}: {} is not allowed here", file_, where, what));
  }

  const std::string& file_;
  absl::Status error_;
  Place place_ = Place::kStart;
  bool in_metadata_ = false;  // the last name of the header is __metadata__
  bool had_metadata_ = false;
  std::string field_;  // of the tensor or the metadata that is being read
  std::map<std::string, std::string> metadata_;
  std::vector<Described> tensors_;
};

// Checks one description against the `data_bytes` bytes of data.
absl::Status CheckTensor(const Described& tensor, uint64_t data_bytes, const std::string& file) {
  const std::string name = Printable(tensor.name);
  if (tensor.offsets->size() != 2) {
    return InvalidArgument("{}: tensor '{}': data_offsets holds {} numbers, the limit is 2", file, name,
                           tensor.offsets->size());
  }
  const uint64_t begin = (*tensor.offsets)[0];
  const uint64_t end = (*tensor.offsets)[1];
  if (begin > end || end > data_bytes) {
    return InvalidArgument("{}: tensor '{}': data_offsets [{}, {}], the limit is the {} bytes of tensor data",
                           file, name, begin, end, data_bytes);
  }
  const std::optional<uint64_t> element_bytes = SafetensorsElementBytes(*tensor.type);
  if (!element_bytes) return absl::OkStatus();  // of unknown width: noted as unreadable
  std::optional<uint64_t> size = element_bytes;
  for (size_t i = 0; i < tensor.shape->size(); ++i) {
    const uint64_t dimension = (*tensor.shape)[i];
    if (dimension > static_cast<uint64_t>(INT64_MAX)) {
      return InvalidArgument("{}: tensor '{}': dimension {} is {}, the limit is {}", file, name, i, dimension,
                             INT64_MAX);
    }
    if (size) size = CheckedMul(*size, dimension);
  }
  if (!size || *size != end - begin) {
    return InvalidArgument("{}: tensor '{}': shape [{}] of {} needs {} bytes, data_offsets limit it to {}",
                           file, name, fmt::join(*tensor.shape, ", "), *tensor.type,
                           size ? fmt::format("{}", *size) : "2^64 or more", end - begin);
  }
  return absl::OkStatus();
}

// The tensors must cover the data without overlap or hole.
absl::Status CheckCover(const std::vector<Described>& tensors, uint64_t data_bytes, const std::string& file) {
  std::vector<const Described*> order;
  order.reserve(tensors.size());
  for (const Described& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(),
            [](const Described* a, const Described* b) { return *a->offsets < *b->offsets; });
  uint64_t covered = 0;
  for (const Described* tensor : order) {
    const uint64_t begin = (*tensor->offsets)[0];
    if (begin != covered) {
      return InvalidArgument(
          "{}: tensor '{}' starts at offset {}, {} the limit of {} where the one before ends", file,
          Printable(tensor->name), begin, begin < covered ? "an overlap below" : "a hole above", covered);
    }
    covered = (*tensor->offsets)[1];
  }
  if (covered != data_bytes) {
    return InvalidArgument(
        "{}: the tensors end at offset {}, a hole before the limit of {} where the data ends", file, covered,
        data_bytes);
  }
  return absl::OkStatus();
}

}  // namespace

std::optional<uint64_t> SafetensorsElementBytes(std::string_view type) {
  struct Known {
    std::string_view name;
    uint64_t bytes;
  };
  static constexpr Known kKnown[] = {{"F64", 8}, {"I64", 8},  {"U64", 8},     {"C64", 8},     {"F32", 4},
                                     {"I32", 4}, {"U32", 4},  {"F16", 2},     {"BF16", 2},    {"I16", 2},
                                     {"U16", 2}, {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
                                     {"I8", 1},  {"U8", 1}};
  for (const Known& known : kKnown) {
    if (known.name == type) return known.bytes;
  }
  return std::nullopt;
}

absl::StatusOr<SafetensorsContents> ReadSafetensors(std::span<const std::byte> bytes,
                                                    const std::string& file) {
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) {
    return InvalidArgument("{}: the file ends inside the header's length: {} bytes, the least is 8", file,
                           bytes.size());
  }
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > kMostHeaderBytes || header_bytes > bytes.size() - sizeof(header_bytes)) {
    return InvalidArgument("{}: not a safetensors file: the header's length is {}, the limit is {}", file,
                           header_bytes,
                           std::min<uint64_t>(kMostHeaderBytes, bytes.size() - sizeof(header_bytes)));
  }
  const auto* header = reinterpret_cast<const char*>(bytes.data()) + sizeof(header_bytes);
  if (header_bytes == 0 || *header != '{') {
    return InvalidArgument("{}: not a safetensors file: the header must start with '{{'", file);
  }
  HeaderReader reader(file);
  if (!nlohmann::json::sax_parse(header, header + header_bytes, &reader)) return reader.error();
  const std::span<const std::byte> data = bytes.subspan(sizeof(header_bytes) + header_bytes);
  for (const Described& tensor : reader.tensors()) TC_RETURN_IF_ERROR(CheckTensor(tensor, data.size(), file));
  TC_RETURN_IF_ERROR(CheckCover(reader.tensors(), data.size(), file));
  SafetensorsContents contents{.metadata = std::move(reader.metadata())};
  contents.tensors.reserve(reader.tensors().size());
  for (Described& tensor : reader.tensors()) {
    const uint64_t begin = (*tensor.offsets)[0];
    contents.tensors.push_back({std::move(tensor.name), *std::move(tensor.type),
                                std::vector<int64_t>(tensor.shape->begin(), tensor.shape->end()),
                                data.subspan(begin, (*tensor.offsets)[1] - begin)});
  }
  return contents;
}

absl::Status ParseSafetensors(std::span<const std::byte> bytes, const std::string& file, TensorTable& table) {
  TC_ASSIGN_OR_RETURN(SafetensorsContents contents, ReadSafetensors(bytes, file));
  for (SafetensorsTensor& tensor : contents.tensors) {
    const std::optional<ElementType> type = ReadableType(tensor.type);
    if (!type || tensor.bytes.empty()) {
      const std::string described =
          Printable(tensor.type) + (tensor.bytes.empty() ? " without elements" : "");
      TC_RETURN_IF_ERROR(
          table.AddUnreadable(tensor.name, described, file, std::move(tensor.shape), tensor.bytes));
      continue;
    }
    TC_RETURN_IF_ERROR(
        table.Add({std::move(tensor.name), file, *type, std::move(tensor.shape), tensor.bytes}));
  }
  return absl::OkStatus();
}

}  // namespace thermocline
