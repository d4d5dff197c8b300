// Table of architectures and of their tensors' names.
// SPDX-License-Identifier: Apache-2.0
#include "model/architecture.h"

#include <absl/strings/str_replace.h>

#include "model/printable.h"

namespace thermocline {
namespace {

// ---- Names in Hugging Face folders. What a model does not have is taken out afterwards.

TensorNames LlamaNames() {
  return {.token_embedding = "model.embed_tokens.weight",
          .output_norm = "model.norm.weight",
          .head = "lm_head.weight",
          .pattern = {.attention_norm = "model.layers.{}.input_layernorm.weight",
                      .query = "model.layers.{}.self_attn.q_proj.weight",
                      .key = "model.layers.{}.self_attn.k_proj.weight",
                      .value = "model.layers.{}.self_attn.v_proj.weight",
                      .query_key_value = "model.layers.{}.self_attn.qkv_proj.weight",
                      .query_norm = "model.layers.{}.self_attn.q_norm.weight",
                      .key_norm = "model.layers.{}.self_attn.k_norm.weight",
                      .attention_sub_norm = "model.layers.{}.self_attn.attn_sub_norm.weight",
                      .attention_output = "model.layers.{}.self_attn.o_proj.weight",
                      .ffn_norm = "model.layers.{}.post_attention_layernorm.weight",
                      .gate = "model.layers.{}.mlp.gate_proj.weight",
                      .up = "model.layers.{}.mlp.up_proj.weight",
                      .gate_up = "model.layers.{}.mlp.gate_up_proj.weight",
                      .ffn_sub_norm = "model.layers.{}.mlp.ffn_sub_norm.weight",
                      .down = "model.layers.{}.mlp.down_proj.weight"}};
}

// Gemma 2 and 3: norms around both blocks.
TensorNames Gemma2Names() {
  TensorNames names = LlamaNames();
  names.pattern.post_attention_norm = "model.layers.{}.post_attention_layernorm.weight";
  names.pattern.ffn_norm = "model.layers.{}.pre_feedforward_layernorm.weight";
  names.pattern.post_ffn_norm = "model.layers.{}.post_feedforward_layernorm.weight";
  return names;
}

TensorNames OptNames() {
  return {.token_embedding = "model.decoder.embed_tokens.weight",
          .positions = "model.decoder.embed_positions.weight",
          .output_norm = "model.decoder.final_layer_norm.weight",
          .head = "lm_head.weight",
          .pattern = {.attention_norm = "model.decoder.layers.{}.self_attn_layer_norm.weight",
                      .query = "model.decoder.layers.{}.self_attn.q_proj.weight",
                      .key = "model.decoder.layers.{}.self_attn.k_proj.weight",
                      .value = "model.decoder.layers.{}.self_attn.v_proj.weight",
                      .attention_output = "model.decoder.layers.{}.self_attn.out_proj.weight",
                      .ffn_norm = "model.decoder.layers.{}.final_layer_norm.weight",
                      .up = "model.decoder.layers.{}.fc1.weight",
                      .down = "model.decoder.layers.{}.fc2.weight"}};
}

TensorNames FalconNames() {
  return {.token_embedding = "transformer.word_embeddings.weight",
          .output_norm = "transformer.ln_f.weight",
          .head = "lm_head.weight",
          .pattern = {.attention_norm = "transformer.h.{}.input_layernorm.weight",
                      .query_key_value = "transformer.h.{}.self_attention.query_key_value.weight",
                      .attention_output = "transformer.h.{}.self_attention.dense.weight",
                      .ffn_norm = "transformer.h.{}.post_attention_layernorm.weight",
                      .up = "transformer.h.{}.mlp.dense_h_to_4h.weight",
                      .down = "transformer.h.{}.mlp.dense_4h_to_h.weight"},
          .grouped_rows = true};
}

// ---- The table

constexpr Architecture kArchitectures[] = {
    {.name = "llama",
     .class_name = "LlamaForCausalLM",
     .model_type = "llama",
     .gguf = "llama",
     .gguf_rope = RopePairing::kInterleaved,
     .hugging_face_names = LlamaNames},
    {.name = "mistral",
     .class_name = "MistralForCausalLM",
     .model_type = "mistral",
     .gguf = "llama",
     .gguf_rope = RopePairing::kInterleaved,
     .hugging_face_names = LlamaNames},
    {.name = "sparsellama",
     .class_name = "SparseLlamaForCausalLM",
     .model_type = "sparsellama",
     .gguf = "llama",
     .activation = Activation::kFatRelu,
     .gguf_rope = RopePairing::kInterleaved,
     .hugging_face_names = LlamaNames},
    {.name = "bamboo",
     .class_name = "BambooForCausalLM",
     .model_type = "bamboo",
     .gguf = "llama",
     .activation = Activation::kDRelu,
     .gguf_rope = RopePairing::kInterleaved,
     .hugging_face_names = LlamaNames},
    {.name = "minicpm",
     .class_name = "MiniCPMForCausalLM",
     .model_type = "minicpm",
     .gguf = "minicpm",
     .gguf_rope = RopePairing::kInterleaved,
     .hugging_face_names = LlamaNames},
    {.name = "qwen2",
     .class_name = "Qwen2ForCausalLM",
     .model_type = "qwen2",
     .gguf = "qwen2",
     .query_key_value_bias = true,
     .hugging_face_names = LlamaNames},
    {.name = "qwen3",
     .class_name = "Qwen3ForCausalLM",
     .model_type = "qwen3",
     .gguf = "qwen3",
     .query_key_norms = true,
     .hugging_face_names = LlamaNames},
    {.name = "gemma",
     .class_name = "GemmaForCausalLM",
     .model_type = "gemma",
     .gguf = "gemma",
     .activation = Activation::kGeluTanh,
     .unit_offset_norms = true,
     .activation_field = "hidden_activation",
     .hugging_face_names = LlamaNames},
    {.name = "gemma2",
     .class_name = "Gemma2ForCausalLM",
     .model_type = "gemma2",
     .gguf = "gemma2",
     .activation = Activation::kGeluTanh,
     .unit_offset_norms = true,
     .post_norms = true,
     .window_pattern = 2,
     .activation_field = "hidden_activation",
     .hugging_face_names = Gemma2Names},
    {.name = "gemma3",
     .class_name = "Gemma3ForCausalLM",
     .model_type = "gemma3_text",
     .gguf = "gemma3",
     .activation = Activation::kGeluTanh,
     .unit_offset_norms = true,
     .query_key_norms = true,
     .post_norms = true,
     .window_pattern = 6,
     .activation_field = "hidden_activation",
     .hugging_face_names = Gemma2Names},
    {.name = "phi3",
     .class_name = "Phi3ForCausalLM",
     .model_type = "phi3",
     .gguf = "phi3",
     .fused_query_key_value = true,
     .fused_gate_up = true,
     .hugging_face_names = LlamaNames},
    {.name = "arcee",
     .class_name = "ArceeForCausalLM",
     .model_type = "arcee",
     .gguf = "arcee",
     .activation = Activation::kRelu2,
     .gated = false,
     .gguf_rope = RopePairing::kInterleaved,
     .hugging_face_names = LlamaNames},
    {.name = "nemotron",
     .class_name = "NemotronForCausalLM",
     .model_type = "nemotron",
     .gguf = "nemotron",
     .activation = Activation::kRelu2,
     .gated = false,
     .norm = NormKind::kLayer,
     .unit_offset_norms = true,
     .norm_epsilon_field = "norm_eps",
     .hugging_face_names = LlamaNames},
    {.name = "bitnet",
     .class_name = "BitNetForCausalLM",
     .model_type = "bitnet",
     .gguf = "thermocline-bitnet",
     .activation = Activation::kRelu2,
     .sub_norms = true,
     .hugging_face_names = LlamaNames},
    {.name = "opt",
     .class_name = "OPTForCausalLM",
     .model_type = "opt",
     .gguf = "opt",
     .activation = Activation::kRelu,
     .gated = false,
     .norm = NormKind::kLayer,
     .positions = PositionKind::kLearned,
     .query_key_value_bias = true,
     .attention_output_bias = true,
     .ffn_bias = true,
     .activation_field = "activation_function",
     .d_ff_field = "ffn_dim",
     .hugging_face_names = OptNames},
    {.name = "falcon",
     .class_name = "FalconForCausalLM",
     .model_type = "falcon",
     .gguf = "falcon",
     .activation = Activation::kGelu,
     .gated = false,
     .norm = NormKind::kLayer,
     .parallel_blocks = true,
     .fused_query_key_value = true,
     .activation_field = "activation",
     .d_ff_field = "ffn_hidden_size",
     .norm_epsilon_field = "layer_norm_epsilon",
     .hugging_face_names = FalconNames},
};

Architecture ArchitectureOf(const ModelConfig& config) {
  const auto architecture = FindArchitecture(config.architecture, "");
  TC_CHECK(architecture.ok());
  return *architecture;
}

// Takes out what a model of this configuration does not have.
TensorNames Choose(TensorNames names, const ModelConfig& config) {
  const Architecture architecture = ArchitectureOf(config);
  TensorNames::Layer& layer = names.pattern;
  if (architecture.fused_query_key_value) {
    layer.query = layer.key = layer.value = "";
  } else {
    layer.query_key_value = "";
  }
  if (architecture.fused_gate_up) {
    layer.gate = layer.up = "";
  } else {
    layer.gate_up = "";
  }
  if (!config.gated) layer.gate = "";
  if (!config.query_key_norms) layer.query_norm = layer.key_norm = "";
  if (!config.sub_norms) layer.attention_sub_norm = layer.ffn_sub_norm = "";
  if (!config.post_norms) layer.post_attention_norm = layer.post_ffn_norm = "";
  if (config.parallel_blocks && config.shared_norm) layer.ffn_norm = "";
  if (config.positions != PositionKind::kLearned) names.positions = "";
  return names;
}

}  // namespace

TensorNames::Layer TensorNames::layer(int64_t index) const {
  const std::string number = std::to_string(index);
  Layer result = pattern;
  for (std::string Layer::*name :
       {&Layer::attention_norm, &Layer::query, &Layer::key, &Layer::value, &Layer::query_key_value,
        &Layer::query_norm, &Layer::key_norm, &Layer::attention_sub_norm, &Layer::attention_output,
        &Layer::post_attention_norm, &Layer::ffn_norm, &Layer::gate, &Layer::up, &Layer::gate_up,
        &Layer::ffn_sub_norm, &Layer::down, &Layer::post_ffn_norm}) {
    absl::StrReplaceAll({{"{}", number}}, &(result.*name));
  }
  return result;
}

absl::StatusOr<Architecture> FindArchitecture(std::string_view name, const std::string& file) {
  std::string known;
  for (const Architecture& architecture : kArchitectures) {
    if (name == architecture.name || name == architecture.class_name || name == architecture.model_type ||
        (!name.empty() && name == architecture.gguf)) {
      return architecture;
    }
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", architecture.name, architecture.class_name);
  }
  return Unimplemented("{}: architecture '{}' is not supported; known are {}", file, Printable(name), known);
}

TensorNames GgufTensorNames(const ModelConfig& config) {
  TensorNames names{.token_embedding = "token_embd.weight",
                    .positions = "position_embd.weight",
                    .output_norm = "output_norm.weight",
                    .head = "output.weight",
                    .pattern = {.attention_norm = "blk.{}.attn_norm.weight",
                                .query = "blk.{}.attn_q.weight",
                                .key = "blk.{}.attn_k.weight",
                                .value = "blk.{}.attn_v.weight",
                                .query_key_value = "blk.{}.attn_qkv.weight",
                                .query_norm = "blk.{}.attn_q_norm.weight",
                                .key_norm = "blk.{}.attn_k_norm.weight",
                                .attention_sub_norm = "blk.{}.attn_sub_norm.weight",
                                .attention_output = "blk.{}.attn_output.weight",
                                .post_attention_norm = "blk.{}.post_attention_norm.weight",
                                .ffn_norm = "blk.{}.ffn_norm.weight",
                                .gate = "blk.{}.ffn_gate.weight",
                                .up = "blk.{}.ffn_up.weight",
                                .gate_up = "blk.{}.ffn_up.weight",  // the gate's rows first
                                .ffn_sub_norm = "blk.{}.ffn_sub_norm.weight",
                                .down = "blk.{}.ffn_down.weight",
                                .post_ffn_norm = "blk.{}.post_ffw_norm.weight"}};
  if (config.parallel_blocks && !config.shared_norm) {
    names.pattern.attention_norm = "blk.{}.attn_norm_2.weight";
    names.pattern.ffn_norm = "blk.{}.attn_norm.weight";
  }
  return Choose(std::move(names), config);
}

TensorNames HuggingFaceTensorNames(const ModelConfig& config) {
  const Architecture architecture = ArchitectureOf(config);
  TensorNames names = architecture.hugging_face_names();
  names.unit_offset_norms = architecture.unit_offset_norms;
  if (architecture.name == "falcon" && config.parallel_blocks && !config.shared_norm) {
    names.pattern.attention_norm = "transformer.h.{}.ln_attn.weight";
    names.pattern.ffn_norm = "transformer.h.{}.ln_mlp.weight";
  }
  return Choose(std::move(names), config);
}

std::string BiasOf(std::string_view weight) {
  constexpr std::string_view kSuffix = "weight";
  TC_CHECK(weight.ends_with(kSuffix));
  return fmt::format("{}bias", weight.substr(0, weight.size() - kSuffix.size()));
}

std::string ScaleOf(std::string_view weight) { return fmt::format("{}_scale", weight); }

std::vector<ExpectedTensor> ExpectedTensors(const ModelConfig& config, const TensorNames& names) {
  const int64_t d_model = config.d_model;
  const int64_t d_query = config.n_heads * config.d_head;
  const int64_t d_key = config.n_kv_heads * config.d_head;
  std::vector<ExpectedTensor> expected;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, bool biased = false) {
    if (name.empty()) return;
    if (biased) expected.push_back({BiasOf(name), {shape.front()}});
    const bool packed = config.ternary == TernaryWeights::kPacked && shape.size() == 2 &&
                        name != names.token_embedding && name != names.head;
    if (packed) {
      expected.push_back({ScaleOf(name), {1}});
      shape.front() /= kTernaryRowsOfAByte;
    }
    expected.push_back({name, std::move(shape), packed});
  };
  const bool norm_bias = config.norm == NormKind::kLayer;
  add(names.token_embedding, {config.n_vocab, d_model});
  add(names.positions, {config.context_length + config.position_offset, d_model});
  for (int64_t index = 0; index < config.n_layers; ++index) {
    const TensorNames::Layer layer = names.layer(index);
    const bool attention_bias = config.query_key_value_bias;
    add(layer.attention_norm, {d_model}, norm_bias);
    add(layer.query, {d_query, d_model}, attention_bias);
    add(layer.key, {d_key, d_model}, attention_bias);
    add(layer.value, {d_key, d_model}, attention_bias);
    add(layer.query_key_value, {d_query + 2 * d_key, d_model}, attention_bias);
    add(layer.query_norm, {config.d_head});
    add(layer.key_norm, {config.d_head});
    add(layer.attention_sub_norm, {d_query});
    add(layer.attention_output, {d_model, d_query}, config.attention_output_bias);
    add(layer.post_attention_norm, {d_model}, norm_bias);
    add(layer.ffn_norm, {d_model}, norm_bias);
    add(layer.gate, {config.d_ff, d_model});
    add(layer.up, {config.d_ff, d_model}, config.ffn_bias);
    add(layer.gate_up, {2 * config.d_ff, d_model});
    add(layer.ffn_sub_norm, {config.d_ff});
    add(layer.down, {d_model, config.d_ff}, config.ffn_bias);
    add(layer.post_ffn_norm, {d_model}, norm_bias);
  }
  add(names.output_norm, {d_model}, norm_bias);
  if (!config.tied_head) add(names.head, {config.n_vocab, d_model});
  return expected;
}

bool IsDispensable(std::string_view tensor, const ModelConfig& config, const TensorNames& names) {
  if (config.tied_head && tensor == names.head) return true;
  // RoPE's tables, and GGUF's divisors, which the configuration has taken.
  if (tensor.ends_with(".rotary_emb.inv_freq") || tensor == "rope_freqs.weight" ||
      tensor.ends_with(".attn_rot_embd.weight")) {
    return true;
  }
  // TurboSparse brings predictors along; without them every neuron is computed.
  return config.activation == Activation::kDRelu && tensor.find(".mlp.predictor.") != std::string_view::npos;
}

void SetBlocks(const Architecture& architecture, ModelConfig& config) {
  config.gated = architecture.gated;
  config.norm = architecture.norm;
  config.positions = architecture.positions;
  config.query_key_norms = architecture.query_key_norms;
  config.post_norms = architecture.post_norms;
  config.sub_norms = architecture.sub_norms;
  config.parallel_blocks = architecture.parallel_blocks;
}

}  // namespace thermocline
