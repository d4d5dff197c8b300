// Random weights of any type in a GGUF file.
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/typed_llama.h"

#include <cmath>
#include <fstream>
#include <random>

#include "model/architecture.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

std::string RandomFloats(int64_t count, float mean, float deviation, std::mt19937& random) {
  std::normal_distribution<float> distribution(mean, deviation);
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) bytes += LittleEndian(distribution(random));
  return bytes;
}

}  // namespace

ModelConfig TypedLlamaConfig() {
  ModelConfig config;
  config.architecture = "llama";
  config.activation = Activation::kRelu;
  config.n_layers = 3;
  config.d_model = 256;
  config.d_ff = 512;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.d_head = 64;
  config.n_vocab = 64;
  config.context_length = 96;
  config.rope_dimensions = 64;
  return config;
}

void WriteTypedLlama(const std::string& path, const ModelConfig& config, ElementType type, uint32_t seed) {
  GgufWriter writer = LlamaMetadata(config);
  writer.SetString("thermocline.activation", "relu");
  std::mt19937 random(seed);
  for (const ExpectedTensor& tensor : ExpectedTensors(config, GgufTensorNames(config))) {
    const int64_t cols = tensor.shape.back();
    const bool is_norm = tensor.shape.size() == 1;
    if (tensor.name.find("ffn_") != std::string::npos && !is_norm) {
      const reference::RandomWeights weights(type, tensor.shape[0], cols, random());
      const WeightView view = weights.view();
      const auto* first = reinterpret_cast<const char*>(view.data);
      writer.AddTensor(tensor.name, tensor.shape, type,
                       std::string(first, static_cast<size_t>(view.rows * view.row_stride_bytes)));
      continue;
    }
    const int64_t rows = is_norm ? 1 : tensor.shape[0];
    const float deviation = is_norm ? 0.2f : 1.0f / std::sqrt(static_cast<float>(cols));
    writer.AddTensor(tensor.name, tensor.shape, ElementType::kF32,
                     RandomFloats(rows * cols, is_norm ? 1.0f : 0.0f, deviation, random));
  }
  std::ofstream(path, std::ios::binary) << writer.Bytes();
}

}  // namespace thermocline
