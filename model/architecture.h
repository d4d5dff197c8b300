// The known architectures: what they are called, what they compute, and what their tensors are called.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/status.h"
#include "model/config.h"

namespace thermocline {

// How an architecture's tensors are called in a file. Empty: there is no such tensor.
struct TensorNames {
  std::string token_embedding;
  std::string positions;
  std::string output_norm;
  std::string head;  // absent in the file when tied
  struct Layer {
    std::string attention_norm, query, key, value, query_key_value, query_norm, key_norm;
    std::string attention_sub_norm, attention_output, post_attention_norm;
    std::string ffn_norm, gate, up, gate_up, ffn_sub_norm, down, post_ffn_norm;
  };
  Layer pattern;                   // with {} for the layer's number
  bool unit_offset_norms = false;  // norms' weights are stored less 1
  bool grouped_rows = false;  // the rows of query_key_value go KV head by KV head: its queries, key, value

  Layer layer(int64_t index) const;
};

// One row of the table of architectures. What differs between models of one architecture is read from their
// files (gguf_config.cc, huggingface_config.cc); all of it ends up in a ModelConfig, which is what computes.
struct Architecture {
  std::string_view name;        // in GGUF's general.architecture and in ModelConfig
  std::string_view class_name;  // in Hugging Face's "architectures"; empty: GGUF only
  std::string_view model_type;  // in Hugging Face's "model_type"
  // GGUF's general.architecture; several may share one, whose first row in the table then is the one that
  // files are read as. llama.cpp knows neither "opt" nor "thermocline-bitnet".
  std::string_view gguf;
  Activation activation = Activation::kSilu;  // where the file does not say
  bool gated = true;
  NormKind norm = NormKind::kRms;
  bool unit_offset_norms = false;              // Hugging Face stores the norms' weights less 1
  RopePairing gguf_rope = RopePairing::kHalf;  // how GGUF orders the rows of queries and keys
  PositionKind positions = PositionKind::kRotary;
  bool query_key_value_bias = false;
  bool attention_output_bias = false;
  bool ffn_bias = false;
  bool query_key_norms = false;
  bool post_norms = false;
  bool sub_norms = false;
  bool parallel_blocks = false;
  int64_t window_pattern = 0;  // every n-th layer sees everything, the others a window; 0: all a window
  bool fused_query_key_value = false;  // one tensor in the file
  bool fused_gate_up = false;
  // Hugging Face's fields, where they are called otherwise.
  std::string_view activation_field = "hidden_act";
  std::string_view d_ff_field = "intermediate_size";
  std::string_view norm_epsilon_field = "rms_norm_eps";
  TensorNames (*hugging_face_names)() = nullptr;
};

// By any of its names. Unimplemented naming `file`, the name and the known ones.
absl::StatusOr<Architecture> FindArchitecture(std::string_view name, const std::string& file);

// The names of the tensors that a model of this configuration has, whose architecture is one of the table.
TensorNames GgufTensorNames(const ModelConfig& config);
TensorNames HuggingFaceTensorNames(const ModelConfig& config);

// "x.weight" becomes "x.bias", "x.weight_scale".
std::string BiasOf(std::string_view weight);
std::string ScaleOf(std::string_view weight);
inline constexpr int64_t kTernaryRowsOfAByte = 4;

struct ExpectedTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first; one dimension for norm weights and biases
  bool packed = false;         // four rows to one of bytes (TernaryWeights::kPacked)
};

// Every tensor that a model of this shape has, the head only where it is not tied. `config` must be valid.
std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config, const TensorNames& names);

// Whether a tensor beyond the expected ones changes nothing: tables that are computed instead, a copy of a
// tied head, predictors that a model brings along.
bool IsDispensable(std::string_view tensor, const ModelConfig& config, const TensorNames& names);

// Sets what every model of the architecture has, whatever its file says.
void SetBlocks(const Architecture& architecture, ModelConfig& config);

}  // namespace thermocline
