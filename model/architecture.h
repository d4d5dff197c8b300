// The known architectures: what they are called, what they compute, and what their tensors are called.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "kernels_cpu/activation.h"
#include "model/config.h"

namespace thermocline {

struct Architecture {
  std::string_view name;        // in GGUF's general.architecture and in ModelConfig
  std::string_view class_name;  // in Hugging Face's "architectures"
  std::string_view model_type;  // in Hugging Face's "model_type"
  Activation activation;        // where the file does not say
  bool gated;
};

// By any of the three names. Unimplemented naming `file`, the name and the known ones.
absl::StatusOr<Architecture> FindArchitecture(std::string_view name, const std::string& file);

// How an architecture's tensors are called in a file.
struct TensorNames {
  std::string token_embedding;
  std::string output_norm;
  std::string head;  // absent in the file when tied
  struct Layer {
    std::string attention_norm, query, key, value, attention_output, ffn_norm, gate, up, down;
  };
  Layer (*layer)(int64_t index) = nullptr;
};

TensorNames GgufTensorNames();
TensorNames HuggingFaceTensorNames();

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first; one dimension for norm weights
};

// Every tensor that a model of this shape has, the head only where it is not tied. `config` must be valid.
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config, const TensorNames& names);

}  // namespace thermocline
