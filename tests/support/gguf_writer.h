// Writes GGUF files for tests, valid ones and, where asked, malformed ones.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/element_type.h"
#include "model/config.h"

namespace thermocline {

// The bytes of a number as they lie in a file.
template <typename T>
std::string LittleEndian(T number) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &number, sizeof(T));
  return bytes;
}

// A string as GGUF has it: 64-bit length, then the bytes. `length` overrides the first.
std::string GgufString(std::string_view text, std::optional<uint64_t> length = {});

class GgufWriter {
 public:
  // The numbers of GGUF's value types.
  enum ValueType : uint32_t {
    kUint8 = 0,
    kInt32 = 5,
    kUint32 = 4,
    kFloat32 = 6,
    kBool = 7,
    kString = 8,
    kArray = 9,
    kUint64 = 10,
  };
  struct Pair {
    std::string key;
    uint32_t type;
    std::string payload;
  };
  struct Tensor {
    std::string name;
    std::vector<uint64_t> dimensions;  // innermost first, as in the file
    uint32_t type;                     // GGUF's number
    std::string data;
    std::optional<uint64_t> offset;  // instead of the next aligned one
  };

  // Set replaces the value of a key that is there already.
  GgufWriter& Set(std::string_view key, uint32_t type, std::string payload);
  GgufWriter& SetUint(std::string_view key, uint32_t value) { return Set(key, kUint32, LittleEndian(value)); }
  GgufWriter& SetFloat(std::string_view key, float value) { return Set(key, kFloat32, LittleEndian(value)); }
  GgufWriter& SetBool(std::string_view key, bool value) {
    return Set(key, kBool, LittleEndian<uint8_t>(value));
  }
  GgufWriter& SetString(std::string_view key, std::string_view value) {
    return Set(key, kString, GgufString(value));
  }
  GgufWriter& SetStrings(std::string_view key, const std::vector<std::string>& values);
  GgufWriter& SetFloats(std::string_view key, const std::vector<float>& values);
  GgufWriter& SetInts(std::string_view key, const std::vector<int32_t>& values);
  GgufWriter& Remove(std::string_view key);

  // `shape` outermost first. Data of the right size, the bytes counting up from 0, where none are given.
  GgufWriter& AddTensor(std::string_view name, const std::vector<int64_t>& shape,
                        ElementType type = ElementType::kF32, std::optional<std::string> data = {});
  // TC_CHECKs that it is there.
  Tensor& FindTensor(std::string_view name);
  GgufWriter& RemoveTensor(std::string_view name);

  std::string Bytes() const;

  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;             // of the layout; general.alignment is set apart
  std::optional<uint64_t> pair_count;  // instead of the true ones
  std::optional<uint64_t> tensor_count;
  std::vector<Pair> pairs;
  std::vector<Tensor> tensors;
};

// A small llama: 2 layers, d_model 32, d_ff 64, 4 heads of 8, 2 key/value heads, 16 tokens, context 64.
ModelConfig TinyLlamaConfig();
// What the file of a llama of this shape says, without tensors and tokenizer.
GgufWriter LlamaMetadata(const ModelConfig& config);
// The tiny model with F32 weights and no tokenizer.
GgufWriter TinyLlamaGguf();

}  // namespace thermocline
