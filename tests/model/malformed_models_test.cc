// Models that claim to be what they are not: refused with a line that names tensor and shapes.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/checkpoint.h"
#include "model/safetensors.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

const std::string kModels = THERMOCLINE_SOURCE_DIR "/tests/support/golden/architectures/";

nlohmann::json ConfigOf(const std::string& model) {
  return nlohmann::json::parse(*ReadTextFile(kModels + model + "/config.json", 1 << 20));
}

SafetensorsWriter TensorsOf(const std::string& model) {
  SafetensorsWriter writer;
  const TensorTable table = *OpenSafetensorsFolder(kModels + model);
  for (const TensorInfo& tensor : table.tensors()) {
    writer.Add(tensor.name, tensor.shape, InfoOf(tensor.type).name,
               std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size()));
  }
  return writer;
}

absl::Status OpenWith(const nlohmann::json& config, const SafetensorsWriter& tensors) {
  const TemporaryFolder folder;
  folder.Write("config.json", config.dump());
  folder.Write("model.safetensors", tensors.Bytes());
  return Checkpoint::Open(folder.path(), {.load_tokenizer = false}).status();
}

TEST(MalformedModels, OneArchitectureWithTheTensorsOfAnother) {
  struct Case {
    std::string config, tensors;
    std::vector<std::string> words;
  };
  const Case cases[] = {
      {"llama", "qwen3", {"'model.layers.0.self_attn.q_proj.weight'", "shape [32, 32]", "found [64, 32]"}},
      {"llama", "qwen2", {"_proj.bias' of shape [", "not part of architecture 'llama'"}},
      {"llama", "bitnet", {"_sub_norm.weight' of shape [", "not part of architecture 'llama'"}},
      {"qwen2", "llama", {"'model.layers.0.self_attn.q_proj.bias' is missing", "[32]"}},
      {"qwen3", "gemma", {"'model.layers.0.self_attn.q_norm.weight' is missing", "[16]"}},
      {"gemma2", "gemma", {"'model.layers.0.pre_feedforward_layernorm.weight' is missing", "[32]"}},
      {"gemma3", "gemma2", {"'model.layers.0.self_attn.q_norm.weight' is missing", "[16]"}},
      {"gemma2", "gemma3", {"_norm.weight' of shape [16]", "not part of architecture 'gemma2'"}},
      {"phi3", "llama", {"'model.layers.0.self_attn.qkv_proj.weight' is missing", "[64, 32]"}},
      {"llama", "phi3", {"'model.layers.0.self_attn.q_proj.weight' is missing", "[32, 32]"}},
      {"arcee", "nemotron", {".bias' of shape [32]", "not part of architecture 'arcee'"}},
      {"nemotron", "arcee", {"'model.layers.0.input_layernorm.bias' is missing", "[32]"}},
      {"bitnet", "llama", {"'model.layers.0.self_attn.attn_sub_norm.weight' is missing", "[32]"}},
      {"opt", "llama", {"'model.decoder.embed_tokens.weight' is missing", "[48, 32]"}},
      {"falcon40b", "falcon7b", {"'transformer.h.0.ln_attn.bias' is missing", "[32]"}},
      {"falcon7b", "falconrelu", {"query_key_value.weight' must have shape [48, 32], found [96, 32]"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.config + " with the tensors of " + c.tensors);
    ExpectRefusal(OpenWith(ConfigOf(c.config), TensorsOf(c.tensors)), c.words);
  }
}

TEST(MalformedModels, LackATensorOrHoldAnotherShape) {
  for (const std::string model : {"llama", "gemma3", "phi3", "opt", "falcon40b", "nemotron", "bitnet"}) {
    SCOPED_TRACE(model);
    const SafetensorsWriter whole = TensorsOf(model);
    for (size_t i = 0; i < whole.tensors.size(); ++i) {
      const SafetensorsWriter::Tensor tensor = whole.tensors[i];
      if (tensor.name == "lm_head.weight") continue;  // without it the head is tied
      SafetensorsWriter changed = whole;
      changed.tensors.erase(changed.tensors.begin() + static_cast<int64_t>(i));
      ExpectRefusal(OpenWith(ConfigOf(model), changed), {"'" + tensor.name + "' is missing", "shape"});
      changed.Add(tensor.name, {3, 5});
      ExpectRefusal(OpenWith(ConfigOf(model), changed),
                    {"'" + tensor.name + "' must have shape [", "found [3, 5]"});
    }
  }
}

TEST(MalformedModels, OddShapes) {
  struct Case {
    std::string model;
    nlohmann::json changes;
    std::vector<std::string> words;
  };
  const Case cases[] = {
      {"llama",
       {{"num_attention_heads", 5}, {"head_dim", nullptr}},
       {"num_attention_heads is 5", "hidden_size 32"}},
      {"llama", {{"num_key_value_heads", 3}}, {"n_heads is 4", "multiple of n_kv_heads, which is 3"}},
      {"llama", {{"head_dim", 7}}, {"d_head is 7", "even"}},
      {"llama",
       {{"intermediate_size", 25}},
       {"mlp.gate_proj.weight' must have shape [25, 32], found [24, 32]"}},
      {"phi3",
       {{"intermediate_size", 25}},
       {"mlp.gate_up_proj.weight' must have shape [50, 32], found [48, 32]"}},
      {"llama", {{"num_hidden_layers", 3}}, {"'model.layers.2.input_layernorm.weight' is missing"}},
      {"llama", {{"num_hidden_layers", 1}}, {"'model.layers.1.", "not part of architecture 'llama'"}},
      {"gemma3", {{"layer_types", {"full_attention"}}}, {"1 layers", "limit is 3"}},
      {"gemma3", {{"layer_types", {"chunked", "chunked", "chunked"}}}, {"layer_types", "chunked"}},
      {"gemma3", {{"query_pre_attn_scalar", 0}}, {"attention scale is inf"}},
      {"gemma2", {{"final_logit_softcapping", -1}}, {"logit soft cap is -1"}},
      {"mistral", {{"sliding_window", -5}}, {"sliding_window is -5"}},
      {"minicpm", {{"scale_emb", 0}}, {"embedding_scale is 0"}},
      {"nemotron",
       {{"partial_rotary_factor", 2.0}, {"rope_parameters", nullptr}},
       {"partial_rotary_factor is 2"}},
      {"opt",
       {{"max_position_embeddings", 33}},
       {"embed_positions.weight' must have shape [35, 32], found [34, 32]"}},
      {"opt", {{"do_layer_norm_before", false}}, {"do_layer_norm_before is false"}},
      {"opt", {{"word_embed_proj_dim", 16}}, {"word_embed_proj_dim is 16", "hidden_size 32"}},
      {"falcon7b", {{"alibi", true}}, {"alibi is true"}},
      {"falcon40b", {{"num_kv_heads", 3}}, {"n_heads is 4", "n_kv_heads, which is 3"}},
      {"phi3", {{"rope_parameters", {{"rope_type", "longrope"}}}}, {"'longrope' is not supported"}},
      {"llama", {{"hidden_act", "quick_gelu"}}, {"hidden_act", "'quick_gelu'", "gelu_tanh"}},
      {"opt", {{"activation_function", "drelu"}}, {"drelu", "gated"}},
  };
  for (const Case& c : cases) {
    nlohmann::json config = ConfigOf(c.model);
    config.update(c.changes);
    SCOPED_TRACE(c.model + " " + c.changes.dump());
    ExpectRefusal(OpenWith(config, TensorsOf(c.model)), c.words);
  }
}

// A row of 40 neurons is not made of blocks of 32.
TEST(MalformedModels, HiddenLayersThatAreNoMultipleOfTheBlock) {
  const TemporaryFolder folder;
  GgufWriter writer = TinyLlamaGguf().SetUint("llama.feed_forward_length", 40);
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    for (const std::string name : {"ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"})
      writer.RemoveTensor(layer + name);
    writer.AddTensor(layer + "ffn_gate.weight", {40, 32}).AddTensor(layer + "ffn_up.weight", {40, 32});
  }
  GgufWriter fits = writer;
  fits.AddTensor("blk.0.ffn_down.weight", {32, 40}).AddTensor("blk.1.ffn_down.weight", {32, 40});
  EXPECT_TRUE(Checkpoint::Open(folder.Write("fits.gguf", fits.Bytes()), {.load_tokenizer = false}).ok());
  writer.AddTensor("blk.0.ffn_down.weight", {32, 40}, ElementType::kQ4_0, std::string(1024, '\0'));
  ExpectRefusal(
      Checkpoint::Open(folder.Write("odd.gguf", writer.Bytes()), {.load_tokenizer = false}).status(),
      {"'blk.0.ffn_down.weight'", "40", "32", "Q4_0"});
}

TEST(MalformedModels, GgufUnderTheNameOfAnArchitectureThatSharesOne) {
  const TemporaryFolder folder;
  const std::string bytes = TinyLlamaGguf().SetString("general.architecture", "mistral").Bytes();
  ExpectRefusal(Checkpoint::Open(folder.Write("t.gguf", bytes), {.load_tokenizer = false}).status(),
                {"'mistral'", "expected 'llama'"});
}

}  // namespace
}  // namespace thermocline
