// GgufFile::Parse: header, metadata and tensor descriptions of one GGUF file or part.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>

#include "core/checked.h"
#include "model/ggml_type.h"
#include "model/gguf_cursor.h"
#include "model/gguf_file.h"
#include "model/printable.h"

namespace thermocline {
namespace {

constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kLeastAlignment = 8;
constexpr uint64_t kMostAlignment = 65536;
constexpr uint64_t kMostKeyBytes = 65535;
constexpr uint64_t kMostNameBytes = 255;
constexpr uint32_t kMostDimensions = 4;
// The least bytes that one entry of each list takes, so that a count can be compared with what remains.
constexpr uint64_t kLeastPairBytes = 8 + 1 + 4 + 1;  // key of one byte, value type, value of one byte
constexpr uint64_t kLeastTensorBytes =
    8 + 1 + 4 + 8 + 4 + 8;  // name of one byte, one dimension, type, offset

enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, const std::string& file)
      : bytes_(bytes), cursor_(bytes, file), file_(file) {}

  absl::StatusOr<GgufFile> Parse() {
    GgufFile gguf{GgufMetadata(file_), TensorTable(file_)};
    TC_RETURN_IF_ERROR(ReadHeader());
    for (uint64_t i = 0; i < pair_count_; ++i) TC_RETURN_IF_ERROR(ReadPair(i, gguf.metadata));
    TC_RETURN_IF_ERROR(ReadAlignment(gguf.metadata));
    tensors_.reserve(tensor_count_);
    for (uint64_t i = 0; i < tensor_count_; ++i) TC_RETURN_IF_ERROR(ReadTensor(i));
    TC_RETURN_IF_ERROR(PlaceTensors(gguf.tensors));
    return gguf;
  }

 private:
  // A tensor as described; where it lies is known once all descriptions are read.
  struct Described {
    TensorInfo info;
    uint64_t offset = 0;  // from the start of the tensor data
    uint64_t size = 0;    // in bytes
  };

  absl::Status ReadHeader() {
    TC_ASSIGN_OR_RETURN(const auto magic, cursor_.Number<uint32_t>("the magic number"));
    if (magic != 0x46554747) {
      const std::string_view found(reinterpret_cast<const char*>(bytes_.data()), sizeof(magic));
      return InvalidArgument("{}: not a GGUF file: the magic number is '{}', expected 'GGUF'", file_,
                             Printable(found));
    }
    TC_ASSIGN_OR_RETURN(const auto version, cursor_.Number<uint32_t>("the version"));
    if ((version & 0xFFFF) == 0) {
      return InvalidArgument(
          "{}: version field {:#x}: a big-endian GGUF file, only little-endian ones are supported", file_,
          version);
    }
    if (version != 2 && version != 3) {
      return InvalidArgument("{}: GGUF version {} is not supported, only versions 2 and 3 are", file_,
                             version);
    }
    TC_ASSIGN_OR_RETURN(tensor_count_, cursor_.Number<uint64_t>("the tensor count"));
    TC_ASSIGN_OR_RETURN(pair_count_, cursor_.Number<uint64_t>("the metadata count"));
    TC_RETURN_IF_ERROR(CheckCount("tensor count", tensor_count_, kLeastTensorBytes));
    return CheckCount("metadata count", pair_count_, kLeastPairBytes);
  }

  absl::Status CheckCount(std::string_view field, uint64_t count, uint64_t least_bytes) const {
    const uint64_t limit = cursor_.remaining() / least_bytes;
    if (count <= limit) return absl::OkStatus();
    return InvalidArgument("{}: {} is {}, the limit is {} (the {} bytes that remain, {} at least for each)",
                           file_, field, count, limit, cursor_.remaining(), least_bytes);
  }

  absl::Status ReadPair(uint64_t index, GgufMetadata& metadata) {
    TC_ASSIGN_OR_RETURN(const std::string_view key,
                        cursor_.String(fmt::format("metadata key {}", index), kMostKeyBytes));
    const std::string field = fmt::format("metadata key '{}'", Printable(key));
    const uint64_t begin = cursor_.position();
    TC_ASSIGN_OR_RETURN(const auto type, cursor_.Number<uint32_t>(field));
    TC_ASSIGN_OR_RETURN(auto value, type == kArray ? ReadArray(field) : ReadScalar(type, field));
    return metadata.Add(key, std::move(value), bytes_.subspan(begin, cursor_.position() - begin));
  }

  template <typename Stored, typename Wide>
  absl::StatusOr<GgufMetadata::Value> Widened(std::string_view field) {
    TC_ASSIGN_OR_RETURN(const auto number, cursor_.Number<Stored>(field));
    return GgufMetadata::Value(static_cast<Wide>(number));
  }

  absl::StatusOr<GgufMetadata::Value> ReadScalar(uint32_t type, std::string_view field) {
    switch (type) {
      case kUint8:
        return Widened<uint8_t, uint64_t>(field);
      case kInt8:
        return Widened<int8_t, int64_t>(field);
      case kUint16:
        return Widened<uint16_t, uint64_t>(field);
      case kInt16:
        return Widened<int16_t, int64_t>(field);
      case kUint32:
        return Widened<uint32_t, uint64_t>(field);
      case kInt32:
        return Widened<int32_t, int64_t>(field);
      case kFloat32:
        return Widened<float, double>(field);
      case kUint64:
        return Widened<uint64_t, uint64_t>(field);
      case kInt64:
        return Widened<int64_t, int64_t>(field);
      case kFloat64:
        return Widened<double, double>(field);
      case kBool: {
        TC_ASSIGN_OR_RETURN(const auto flag, cursor_.Number<uint8_t>(field));
        TC_RETURN_IF_ERROR(CheckBool(flag, field));
        return GgufMetadata::Value(flag == 1);
      }
      case kString: {
        TC_ASSIGN_OR_RETURN(const auto text, cursor_.String(field, UINT64_MAX));
        return GgufMetadata::Value(text);
      }
      default:
        return InvalidArgument("{}: {} has value type {}, the limit is {}", file_, field, type,
                               static_cast<uint32_t>(kFloat64));
    }
  }

  absl::Status CheckBool(uint64_t flag, std::string_view field) const {
    if (flag <= 1) return absl::OkStatus();
    return InvalidArgument("{}: {} is a boolean of value {}, the limit is 1", file_, field, flag);
  }

  // Checks the count of an array against the bytes that remain before it allocates.
  template <typename Stored, typename Wide>
  absl::StatusOr<GgufMetadata::Value> WidenedArray(uint64_t count, std::string_view field) {
    TC_RETURN_IF_ERROR(CheckCount(fmt::format("{}: array length", field), count, sizeof(Stored)));
    return GgufMetadata::Value(cursor_.Numbers<Stored, Wide>(count));
  }

  absl::StatusOr<GgufMetadata::Value> ReadArray(std::string_view field) {
    TC_ASSIGN_OR_RETURN(const auto type, cursor_.Number<uint32_t>(field));
    TC_ASSIGN_OR_RETURN(const auto count, cursor_.Number<uint64_t>(field));
    switch (type) {
      case kUint8:
        return WidenedArray<uint8_t, uint64_t>(count, field);
      case kInt8:
        return WidenedArray<int8_t, int64_t>(count, field);
      case kUint16:
        return WidenedArray<uint16_t, uint64_t>(count, field);
      case kInt16:
        return WidenedArray<int16_t, int64_t>(count, field);
      case kUint32:
        return WidenedArray<uint32_t, uint64_t>(count, field);
      case kInt32:
        return WidenedArray<int32_t, int64_t>(count, field);
      case kFloat32:
        return WidenedArray<float, double>(count, field);
      case kUint64:
        return WidenedArray<uint64_t, uint64_t>(count, field);
      case kInt64:
        return WidenedArray<int64_t, int64_t>(count, field);
      case kFloat64:
        return WidenedArray<double, double>(count, field);
      case kBool:
        return ReadBoolArray(count, field);
      case kString:
        return ReadStringArray(count, field);
      case kArray:
        return InvalidArgument("{}: {} is an array of arrays, the limit is one level", file_, field);
      default:
        return InvalidArgument("{}: {} is an array of value type {}, the limit is {}", file_, field, type,
                               static_cast<uint32_t>(kFloat64));
    }
  }

  absl::StatusOr<GgufMetadata::Value> ReadBoolArray(uint64_t count, std::string_view field) {
    TC_RETURN_IF_ERROR(CheckCount(fmt::format("{}: array length", field), count, 1));
    std::vector<bool> flags(count);
    for (uint64_t i = 0; i < count; ++i) {
      TC_ASSIGN_OR_RETURN(const auto flag, cursor_.Number<uint8_t>(field));
      TC_RETURN_IF_ERROR(CheckBool(flag, field));
      flags[i] = flag == 1;
    }
    return GgufMetadata::Value(std::move(flags));
  }

  absl::StatusOr<GgufMetadata::Value> ReadStringArray(uint64_t count, std::string_view field) {
    TC_RETURN_IF_ERROR(CheckCount(fmt::format("{}: array length", field), count, sizeof(uint64_t)));
    std::vector<std::string_view> texts;
    texts.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      TC_ASSIGN_OR_RETURN(const auto text, cursor_.String(field, UINT64_MAX));
      texts.push_back(text);
    }
    return GgufMetadata::Value(std::move(texts));
  }

  absl::Status ReadAlignment(const GgufMetadata& metadata) {
    if (!metadata.Has("general.alignment")) return absl::OkStatus();
    TC_ASSIGN_OR_RETURN(alignment_, metadata.Uint("general.alignment"));
    if (alignment_ < kLeastAlignment || alignment_ > kMostAlignment || (alignment_ & (alignment_ - 1)) != 0) {
      return InvalidArgument("{}: general.alignment is {}, the limit is a power of two from {} to {}", file_,
                             alignment_, kLeastAlignment, kMostAlignment);
    }
    return absl::OkStatus();
  }

  absl::Status ReadTensor(uint64_t index) {
    Described tensor;
    TC_ASSIGN_OR_RETURN(const std::string_view name,
                        cursor_.String(fmt::format("the name of tensor {}", index), kMostNameBytes));
    tensor.info.name = std::string(name);
    tensor.info.file = file_;
    const std::string field = fmt::format("tensor '{}'", Printable(name));
    TC_ASSIGN_OR_RETURN(const auto dimensions, cursor_.Number<uint32_t>(field));
    if (dimensions < 1 || dimensions > kMostDimensions) {
      return InvalidArgument("{}: {} has {} dimensions, the limit is 1 to {}", file_, field, dimensions,
                             kMostDimensions);
    }
    for (uint32_t i = 0; i < dimensions; ++i) {
      TC_ASSIGN_OR_RETURN(const auto dimension, cursor_.Number<uint64_t>(field));
      if (dimension < 1 || dimension > static_cast<uint64_t>(INT64_MAX)) {
        return InvalidArgument("{}: {}: dimension {} is {}, the limit is 1 to {}", file_, field, i, dimension,
                               INT64_MAX);
      }
      tensor.info.shape.push_back(static_cast<int64_t>(dimension));
    }
    std::reverse(tensor.info.shape.begin(), tensor.info.shape.end());  // the file has the innermost first
    TC_ASSIGN_OR_RETURN(const auto type, cursor_.Number<uint32_t>(field));
    const std::optional<ElementType> known = ElementTypeOfGgml(type);
    if (!known) {
      return InvalidArgument("{}: {} has type {}, which is not supported; supported are {}", file_, field,
                             GgmlTypeName(type), SupportedGgmlTypes());
    }
    tensor.info.type = *known;
    TC_RETURN_IF_ERROR(MeasureTensor(field, tensor));
    TC_ASSIGN_OR_RETURN(tensor.offset, cursor_.Number<uint64_t>(field));
    if (tensor.offset % alignment_ != 0) {
      return InvalidArgument("{}: {}: offset {} is no multiple of the alignment {}", file_, field,
                             tensor.offset, alignment_);
    }
    tensors_.push_back(std::move(tensor));
    return absl::OkStatus();
  }

  // Sets the size in bytes; the product of all dimensions must not overflow either.
  absl::Status MeasureTensor(std::string_view field, Described& tensor) const {
    const auto row_bytes = RowBytes(tensor.info.type, tensor.info.shape.back());
    if (!row_bytes.ok()) {
      return InvalidArgument("{}: {}: {}", file_, field, std::string(row_bytes.status().message()));
    }
    std::optional<uint64_t> size = static_cast<uint64_t>(*row_bytes);
    std::optional<uint64_t> elements = static_cast<uint64_t>(tensor.info.shape.back());
    for (size_t i = 0; size && elements && i + 1 < tensor.info.shape.size(); ++i) {
      size = CheckedMul(*size, static_cast<uint64_t>(tensor.info.shape[i]));
      elements = CheckedMul(*elements, static_cast<uint64_t>(tensor.info.shape[i]));
    }
    if (!size || !elements || *size > bytes_.size()) {
      return InvalidArgument("{}: {}: shape [{}] of {} needs more bytes than the limit, the file's {}", file_,
                             field, fmt::join(tensor.info.shape, ", "), NameOf(tensor.info.type),
                             bytes_.size());
    }
    tensor.size = *size;
    return absl::OkStatus();
  }

  // Turns offsets into bytes of the file, each tensor inside it and apart from the others.
  absl::Status PlaceTensors(TensorTable& table) {
    if (tensors_.empty()) return absl::OkStatus();
    const auto start = CheckedAlignUp(cursor_.position(), alignment_);
    const uint64_t available = !start || *start > bytes_.size() ? 0 : bytes_.size() - *start;
    for (Described& tensor : tensors_) {
      const auto end = CheckedAdd(tensor.offset, tensor.size);
      if (!end || *end > available) {
        return InvalidArgument(
            "{}: tensor '{}': offset {} and {} bytes, the limit is the {} bytes of tensor data", file_,
            Printable(tensor.info.name), tensor.offset, tensor.size, available);
      }
      tensor.info.bytes = bytes_.subspan(*start + tensor.offset, tensor.size);
    }
    TC_RETURN_IF_ERROR(CheckOverlap());
    for (Described& tensor : tensors_) TC_RETURN_IF_ERROR(table.Add(std::move(tensor.info)));
    return absl::OkStatus();
  }

  absl::Status CheckOverlap() const {
    std::vector<const Described*> order;
    order.reserve(tensors_.size());
    for (const Described& tensor : tensors_) order.push_back(&tensor);
    std::sort(order.begin(), order.end(),
              [](const Described* a, const Described* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < order.size(); ++i) {
      const Described& before = *order[i - 1];
      if (before.offset + before.size > order[i]->offset) {
        return InvalidArgument("{}: tensor '{}' at offset {} overlaps tensor '{}', whose limit is {}", file_,
                               Printable(order[i]->info.name), order[i]->offset, Printable(before.info.name),
                               before.offset + before.size);
      }
    }
    return absl::OkStatus();
  }

  std::span<const std::byte> bytes_;
  GgufCursor cursor_;
  const std::string& file_;
  uint64_t tensor_count_ = 0;
  uint64_t pair_count_ = 0;
  uint64_t alignment_ = kDefaultAlignment;
  std::vector<Described> tensors_;
};

}  // namespace

absl::StatusOr<GgufFile> GgufFile::Parse(std::span<const std::byte> bytes, const std::string& file) {
  return Parser(bytes, file).Parse();
}

}  // namespace thermocline
