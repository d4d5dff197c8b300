// Writes safetensors files and small Hugging Face folders for tests, valid ones and malformed ones.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

// Any header and data; `header_length` overrides the true length.
std::string SafetensorsBytes(std::string_view header, std::string_view data,
                             std::optional<uint64_t> header_length = {});

class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    std::string type;  // "F32"
    std::vector<int64_t> shape;
    std::string data;
  };
  // F32 data that counts up where none is given.
  SafetensorsWriter& Add(std::string_view name, const std::vector<int64_t>& shape,
                         std::string_view type = "F32", std::optional<std::string> data = {});
  SafetensorsWriter& Remove(std::string_view name);
  std::string Bytes() const;

  std::vector<Tensor> tensors;
};

// The model of TinyLlamaConfig() as config.json and as weights.
std::string TinyLlamaConfigJson();
SafetensorsWriter TinyLlamaSafetensors();

}  // namespace thermocline
