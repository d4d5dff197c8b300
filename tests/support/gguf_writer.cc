// GGUF serialisation for tests, written against the format and apart from the reader.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/gguf_writer.h"

#include <algorithm>

#include "model/architecture.h"
#include "model/ggml_type.h"

namespace thermocline {
namespace {

void Pad(std::string& bytes, uint64_t alignment) {
  while (bytes.size() % alignment != 0) bytes += '\0';
}

template <typename T>
std::string ArrayPayload(uint32_t type, const std::vector<T>& values) {
  std::string payload = LittleEndian(type) + LittleEndian<uint64_t>(values.size());
  for (const T value : values) payload += LittleEndian(value);
  return payload;
}

}  // namespace

std::string GgufString(std::string_view text, std::optional<uint64_t> length) {
  return LittleEndian<uint64_t>(length.value_or(text.size())) + std::string(text);
}

GgufWriter& GgufWriter::Set(std::string_view key, uint32_t type, std::string payload) {
  for (Pair& pair : pairs) {
    if (pair.key == key) {
      pair = {std::string(key), type, std::move(payload)};
      return *this;
    }
  }
  pairs.push_back({std::string(key), type, std::move(payload)});
  return *this;
}

GgufWriter& GgufWriter::SetStrings(std::string_view key, const std::vector<std::string>& values) {
  std::string payload = LittleEndian<uint32_t>(kString) + LittleEndian<uint64_t>(values.size());
  for (const std::string& value : values) payload += GgufString(value);
  return Set(key, kArray, std::move(payload));
}

GgufWriter& GgufWriter::SetFloats(std::string_view key, const std::vector<float>& values) {
  return Set(key, kArray, ArrayPayload(kFloat32, values));
}

GgufWriter& GgufWriter::SetInts(std::string_view key, const std::vector<int32_t>& values) {
  return Set(key, kArray, ArrayPayload(kInt32, values));
}

GgufWriter& GgufWriter::Remove(std::string_view key) {
  std::erase_if(pairs, [&](const Pair& pair) { return pair.key == key; });
  return *this;
}

GgufWriter& GgufWriter::AddTensor(std::string_view name, const std::vector<int64_t>& shape, ElementType type,
                                  std::optional<std::string> data) {
  if (!data) {
    int64_t size = *RowBytes(type, shape.back());
    for (size_t i = 0; i + 1 < shape.size(); ++i) size *= shape[i];
    data.emplace(static_cast<size_t>(size), '\0');
    for (size_t i = 0; i < data->size(); ++i) (*data)[i] = static_cast<char>(i);
  }
  tensors.push_back({std::string(name), std::vector<uint64_t>(shape.rbegin(), shape.rend()), GgmlIdOf(type),
                     *std::move(data), std::nullopt});
  return *this;
}

GgufWriter::Tensor& GgufWriter::FindTensor(std::string_view name) {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const Tensor& tensor) { return tensor.name == name; });
  TC_CHECK(found != tensors.end());
  return *found;
}

GgufWriter& GgufWriter::RemoveTensor(std::string_view name) {
  std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == name; });
  return *this;
}

std::string GgufWriter::Bytes() const {
  std::string bytes = magic + LittleEndian(version) + LittleEndian(tensor_count.value_or(tensors.size())) +
                      LittleEndian(pair_count.value_or(pairs.size()));
  for (const Pair& pair : pairs) bytes += GgufString(pair.key) + LittleEndian(pair.type) + pair.payload;
  std::string data;
  for (const Tensor& tensor : tensors) {
    bytes += GgufString(tensor.name) + LittleEndian(static_cast<uint32_t>(tensor.dimensions.size()));
    for (const uint64_t dimension : tensor.dimensions) bytes += LittleEndian(dimension);
    bytes += LittleEndian(tensor.type) + LittleEndian<uint64_t>(tensor.offset.value_or(data.size()));
    data += tensor.data;
    Pad(data, alignment);
  }
  Pad(bytes, alignment);
  return bytes + data;
}

ModelConfig TinyLlamaConfig() {
  ModelConfig config;
  config.architecture = "llama";
  config.n_layers = 2;
  config.d_model = 32;
  config.d_ff = 64;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 8;
  config.n_vocab = 16;
  config.context_length = 64;
  config.rope_dimensions = 8;
  return config;
}

GgufWriter LlamaMetadata(const ModelConfig& config) {
  GgufWriter writer;
  writer.SetString("general.architecture", "llama")
      .SetUint("llama.block_count", static_cast<uint32_t>(config.n_layers))
      .SetUint("llama.embedding_length", static_cast<uint32_t>(config.d_model))
      .SetUint("llama.feed_forward_length", static_cast<uint32_t>(config.d_ff))
      .SetUint("llama.attention.head_count", static_cast<uint32_t>(config.n_heads))
      .SetUint("llama.attention.head_count_kv", static_cast<uint32_t>(config.n_kv_heads))
      .SetUint("llama.context_length", static_cast<uint32_t>(config.context_length))
      .SetFloat("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  return writer;
}

GgufWriter TinyLlamaGguf() {
  const ModelConfig config = TinyLlamaConfig();
  GgufWriter writer = LlamaMetadata(config);
  for (const ExpectedTensor& tensor : ExpectedTensors(config, GgufTensorNames(config))) {
    writer.AddTensor(tensor.name, tensor.shape);
  }
  return writer;
}

}  // namespace thermocline
