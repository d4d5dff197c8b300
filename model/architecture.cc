// Table of architectures and of their tensors' names.
// SPDX-License-Identifier: Apache-2.0
#include "model/architecture.h"

#include "model/printable.h"

namespace thermocline {
namespace {

constexpr Architecture kArchitectures[] = {
    {"llama", "LlamaForCausalLM", "llama", Activation::kSilu, true},
};

TensorNames::Layer GgufLayer(int64_t index) {
  const std::string prefix = fmt::format("blk.{}.", index);
  return {.attention_norm = prefix + "attn_norm.weight",
          .query = prefix + "attn_q.weight",
          .key = prefix + "attn_k.weight",
          .value = prefix + "attn_v.weight",
          .attention_output = prefix + "attn_output.weight",
          .ffn_norm = prefix + "ffn_norm.weight",
          .gate = prefix + "ffn_gate.weight",
          .up = prefix + "ffn_up.weight",
          .down = prefix + "ffn_down.weight"};
}

TensorNames::Layer HuggingFaceLayer(int64_t index) {
  const std::string prefix = fmt::format("model.layers.{}.", index);
  return {.attention_norm = prefix + "input_layernorm.weight",
          .query = prefix + "self_attn.q_proj.weight",
          .key = prefix + "self_attn.k_proj.weight",
          .value = prefix + "self_attn.v_proj.weight",
          .attention_output = prefix + "self_attn.o_proj.weight",
          .ffn_norm = prefix + "post_attention_layernorm.weight",
          .gate = prefix + "mlp.gate_proj.weight",
          .up = prefix + "mlp.up_proj.weight",
          .down = prefix + "mlp.down_proj.weight"};
}

}  // namespace

absl::StatusOr<Architecture> FindArchitecture(std::string_view name, const std::string& file) {
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name || name == architecture.class_name || name == architecture.model_type) {
      return architecture;
    }
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", architecture.name, architecture.class_name);
  }
  return Unimplemented("{}: architecture '{}' is not supported; known are {}", file, Printable(name), known);
}

TensorNames GgufTensorNames() {
  return {.token_embedding = "token_embd.weight",
          .output_norm = "output_norm.weight",
          .head = "output.weight",
          .layer = GgufLayer};
}

TensorNames HuggingFaceTensorNames() {
  return {.token_embedding = "model.embed_tokens.weight",
          .output_norm = "model.norm.weight",
          .head = "lm_head.weight",
          .layer = HuggingFaceLayer};
}

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config, const TensorNames& names) {
  const int64_t d_model = config.d_model;
  const int64_t d_query = config.n_heads * config.d_head;
  const int64_t d_key = config.n_kv_heads * config.d_head;
  std::vector<ExpectedTensor> expected;
  expected.push_back({names.token_embedding, {config.n_vocab, d_model}});
  for (int64_t index = 0; index < config.n_layers; ++index) {
    TensorNames::Layer layer = names.layer(index);
    expected.push_back({std::move(layer.attention_norm), {d_model}});
    expected.push_back({std::move(layer.query), {d_query, d_model}});
    expected.push_back({std::move(layer.key), {d_key, d_model}});
    expected.push_back({std::move(layer.value), {d_key, d_model}});
    expected.push_back({std::move(layer.attention_output), {d_model, d_query}});
    expected.push_back({std::move(layer.ffn_norm), {d_model}});
    if (config.gated) expected.push_back({std::move(layer.gate), {config.d_ff, d_model}});
    expected.push_back({std::move(layer.up), {config.d_ff, d_model}});
    expected.push_back({std::move(layer.down), {d_model, config.d_ff}});
  }
  expected.push_back({names.output_norm, {d_model}});
  if (!config.tied_head) expected.push_back({names.head, {config.n_vocab, d_model}});
  return expected;
}

}  // namespace thermocline
