// safetensors serialisation for tests, written against the format and apart from the reader.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/safetensors_writer.h"

#include <nlohmann/json.hpp>

#include "core/status.h"
#include "model/architecture.h"
#include "tests/support/gguf_writer.h"

namespace thermocline {

std::string SafetensorsBytes(std::string_view header, std::string_view data,
                             std::optional<uint64_t> header_length) {
  return LittleEndian<uint64_t>(header_length.value_or(header.size())) + std::string(header) +
         std::string(data);
}

SafetensorsWriter& SafetensorsWriter::Add(std::string_view name, const std::vector<int64_t>& shape,
                                          std::string_view type, std::optional<std::string> data) {
  if (!data) {
    TC_CHECK(type == "F32");
    int64_t elements = 1;
    for (const int64_t dimension : shape) elements *= dimension;
    data.emplace();
    for (int64_t i = 0; i < elements; ++i) *data += LittleEndian(static_cast<float>(i));
  }
  tensors.push_back({std::string(name), std::string(type), shape, *std::move(data)});
  return *this;
}

SafetensorsWriter& SafetensorsWriter::Remove(std::string_view name) {
  std::erase_if(tensors, [&](const Tensor& tensor) { return tensor.name == name; });
  return *this;
}

std::string SafetensorsWriter::Bytes() const {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const Tensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", tensor.type},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  return SafetensorsBytes(header.dump(), data);
}

std::string TinyLlamaConfigJson() {
  const ModelConfig config = TinyLlamaConfig();
  const nlohmann::json json = {{"architectures", {"LlamaForCausalLM"}},
                               {"model_type", "llama"},
                               {"hidden_act", "silu"},
                               {"hidden_size", config.d_model},
                               {"intermediate_size", config.d_ff},
                               {"num_hidden_layers", config.n_layers},
                               {"num_attention_heads", config.n_heads},
                               {"num_key_value_heads", config.n_kv_heads},
                               {"vocab_size", config.n_vocab},
                               {"max_position_embeddings", config.context_length},
                               {"rms_norm_eps", 1e-5},
                               {"tie_word_embeddings", false}};
  return json.dump();
}

SafetensorsWriter TinyLlamaSafetensors() {
  SafetensorsWriter writer;
  for (const ExpectedTensor& tensor :
       ExpectedTensors(TinyLlamaConfig(), HuggingFaceTensorNames(TinyLlamaConfig()))) {
    writer.Add(tensor.name, tensor.shape);
  }
  return writer;
}

}  // namespace thermocline
