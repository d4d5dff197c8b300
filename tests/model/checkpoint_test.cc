// Checkpoint::Open on tiny models, on the demo model and, where it was fetched, on SmolLM2.
// SPDX-License-Identifier: Apache-2.0
#include "model/checkpoint.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "core/mapped_file.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

constexpr CheckpointOptions kWithoutTokenizer{.load_tokenizer = false};

absl::StatusOr<Checkpoint> Open(const std::string& path) { return Checkpoint::Open(path, kWithoutTokenizer); }

TEST(Checkpoint, OpensATinyGguf) {
  const TemporaryFolder folder;
  const auto checkpoint = Open(folder.Write("tiny.gguf", TinyLlamaGguf().Bytes()));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->path, folder.path() + "/tiny.gguf");
  EXPECT_EQ(checkpoint->format, "gguf");
  EXPECT_EQ(checkpoint->config.rope_pairing, RopePairing::kInterleaved);
  EXPECT_FALSE(checkpoint->config.tied_head);
  EXPECT_EQ(checkpoint->tokenizer, nullptr);
  const TensorNames::Layer names = checkpoint->names.layer(1);
  EXPECT_EQ(names.down, "blk.1.ffn_down.weight");
  EXPECT_TRUE(checkpoint->tensors.Matrix(names.down, 32, 64).ok());
  // Embedding and head 2 x 16 x 32; a layer 2 norms, q and o 32 x 32, k and v 16 x 32, three of 64 x 32; a
  // norm.
  EXPECT_EQ(checkpoint->total_bytes(), 4 * (2 * 512 + 2 * (64 + 2 * 1024 + 2 * 512 + 3 * 2048) + 32));
}

TEST(Checkpoint, OpensATinyFolder) {
  const TemporaryFolder folder;
  folder.Write("config.json", TinyLlamaConfigJson());
  folder.Write("model.safetensors", TinyLlamaSafetensors()
                                        .Add("model.layers.0.self_attn.rotary_emb.inv_freq", {4})
                                        .Add("position_ids", {2}, "I64", std::string(16, '\0'))
                                        .Bytes());
  const auto checkpoint = Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->format, "safetensors");
  EXPECT_EQ(checkpoint->config.rope_pairing, RopePairing::kHalf);
  EXPECT_FALSE(checkpoint->config.tied_head);
  EXPECT_EQ(checkpoint->names.layer(1).query, "model.layers.1.self_attn.q_proj.weight");
  const auto relu =
      Checkpoint::Open(folder.path(), {.activation = Activation::kRelu, .load_tokenizer = false});
  ASSERT_TRUE(relu.ok()) << relu.status();
  EXPECT_EQ(relu->config.activation, Activation::kRelu);
}

TEST(Checkpoint, AMissingHeadIsTied) {
  const TemporaryFolder folder;
  EXPECT_TRUE(
      Open(folder.Write("t.gguf", TinyLlamaGguf().RemoveTensor("output.weight").Bytes()))->config.tied_head);
  folder.Write("config.json", TinyLlamaConfigJson());
  folder.Write("model.safetensors", TinyLlamaSafetensors().Remove("lm_head.weight").Bytes());
  const auto checkpoint = Open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->config.tied_head);
}

TEST(Checkpoint, RefusesTensorsByName) {
  const TemporaryFolder folder;
  const auto refuse = [&](const GgufWriter& writer, const std::vector<std::string>& words) {
    ExpectRefusal(Open(folder.Write("t.gguf", writer.Bytes())).status(), words);
  };
  for (const ExpectedTensor& tensor :
       ExpectedTensors(TinyLlamaConfig(), GgufTensorNames(TinyLlamaConfig()))) {
    if (tensor.name == "output.weight") continue;  // tied then
    // Without its embedding a file does not tell the size of the vocabulary unless a key does.
    GgufWriter writer = TinyLlamaGguf().SetUint("llama.vocab_size", 16).RemoveTensor(tensor.name);
    refuse(writer, {"t.gguf", "'" + tensor.name + "' is missing"});
    writer.AddTensor(tensor.name, {3, 32});
    refuse(writer, {"t.gguf", "'" + tensor.name + "' must have shape [", "found [3, 32]"});
  }
  GgufWriter writer = TinyLlamaGguf();
  writer.RemoveTensor("output_norm.weight").AddTensor("output_norm.weight", {32}, ElementType::kQ8_0);
  refuse(writer, {"t.gguf", "'output_norm.weight'", "Q8_0", "F32, F16 or BF16"});
  refuse(TinyLlamaGguf().AddTensor("blk.0.attn_q.bias", {32}),
         {"t.gguf", "'blk.0.attn_k.bias' is missing", "[16]"});
  refuse(TinyLlamaGguf().AddTensor("blk.0.attn_k_norm.weight", {8}),
         {"t.gguf", "'blk.0.attn_k_norm.weight' of shape [8] is not part of architecture 'llama'"});
  refuse(TinyLlamaGguf().SetUint("llama.vocab_size", 17), {"'token_embd.weight' must have shape [17, 32]"});
}

TEST(Checkpoint, RefusesUnreadableTypesOfNeededTensors) {
  const TemporaryFolder folder;
  folder.Write("config.json", TinyLlamaConfigJson());
  folder.Write("model.safetensors", TinyLlamaSafetensors()
                                        .Remove("model.norm.weight")
                                        .Add("model.norm.weight", {32}, "F64", std::string(256, '\0'))
                                        .Bytes());
  ExpectRefusal(Open(folder.path()).status(), {"model.safetensors", "'model.norm.weight'", "F64"});
}

TEST(Checkpoint, RefusesOtherFilesByWhatWasExpected) {
  const TemporaryFolder folder;
  ExpectRefusal(Open(folder.path() + "/absent").status(), {folder.path() + "/absent", "no such file"});
  ExpectRefusal(Open(folder.path()).status(),
                {folder.path(), "not a Hugging Face folder", "config.json is missing"});
  ExpectRefusal(Open(folder.Write("empty", "")).status(), {"the file is empty"});
  ExpectRefusal(Open(folder.Write("a.zip", "PK\x03\x04 and more")).status(),
                {"a.zip", "not a GGUF file", "'GGUF'"});
  ExpectRefusal(Open(folder.Write("a.safetensors", TinyLlamaSafetensors().Bytes())).status(),
                {"a.safetensors", "give the folder"});
  folder.Write("config.json", TinyLlamaConfigJson());
  ExpectRefusal(Open(folder.path()).status(), {folder.path(), "neither model.safetensors nor"});
  folder.Write("config.json", std::string((1 << 20) + 1, ' '));
  ExpectRefusal(Open(folder.path()).status(), {"config.json", "1048577 bytes", "limit is 1048576"});
}

TEST(Checkpoint, RefusesATokenizerLargerThanTheModelsVocabulary) {
  const TemporaryFolder folder;
  folder.Write("config.json", TinyLlamaConfigJson());
  folder.Write("model.safetensors", TinyLlamaSafetensors().Bytes());
  folder.Write("tokenizer.model",
               *ReadTextFile(THERMOCLINE_SOURCE_DIR "/models/demo/tokenizer.model", 1 << 20));
  ExpectRefusal(Checkpoint::Open(folder.path()).status(), {folder.path(), "4096 tokens", "n_vocab of 16"});
}

TEST(Checkpoint, Sha256IsThatOfTheFilesInOrder) {
  const TemporaryFolder folder;
  const std::string bytes = TinyLlamaGguf().Bytes();
  const auto gguf = Open(folder.Write("t.gguf", bytes));
  EXPECT_EQ(gguf->Sha256(), Sha256Hex(std::as_bytes(std::span(bytes))));
  SafetensorsWriter first;
  SafetensorsWriter second;
  std::string map;
  for (const auto& tensor : TinyLlamaSafetensors().tensors) {
    SafetensorsWriter& shard = tensor.name.find("layers.0") == std::string::npos ? second : first;
    shard.tensors.push_back(tensor);
    map += (map.empty() ? "\"" : ",\"") + tensor.name +
           (&shard == &first ? R"(":"a.safetensors")" : R"(":"b.safetensors")");
  }
  folder.Write("config.json", TinyLlamaConfigJson());
  folder.Write("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}");
  folder.Write("a.safetensors", first.Bytes());
  folder.Write("b.safetensors", second.Bytes());
  const auto sharded = Open(folder.path());
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  const std::string both = first.Bytes() + second.Bytes();
  EXPECT_EQ(sharded->Sha256(), Sha256Hex(std::as_bytes(std::span(both))));
}

TEST(Checkpoint, OpensTheDemoModel) {
  const auto checkpoint = Open(THERMOCLINE_SOURCE_DIR "/models/demo");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ModelConfig& config = checkpoint->config;
  EXPECT_EQ(config.activation, Activation::kRelu);
  EXPECT_EQ(config.n_layers, 6);
  EXPECT_EQ(config.d_model, 256);
  EXPECT_EQ(config.d_ff, 1024);
  EXPECT_EQ(config.n_heads, 8);
  EXPECT_EQ(config.n_kv_heads, 4);
  EXPECT_EQ(config.d_head, 32);
  EXPECT_EQ(config.n_vocab, 4096);
  EXPECT_EQ(config.context_length, 512);
  EXPECT_EQ(config.norm_epsilon, 1e-5);
  EXPECT_EQ(config.rope_pairing, RopePairing::kHalf);
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(checkpoint->total_bytes(), 2 * 6'950'144);  // parameters as models/demo/README.md counts them
  EXPECT_EQ(checkpoint->tensors.Matrix(checkpoint->names.token_embedding, 4096, 256)->type,
            ElementType::kF16);
}

// Empty where the folder of fetched models is not given or lacks the file.
std::string FetchedModel(const std::string& name) {
  const char* folder = std::getenv("THERMOCLINE_TEST_MODELS");
  if (folder == nullptr) return "";
  const std::string path = std::string(folder) + "/" + name;
  return std::filesystem::exists(path) ? path : "";
}

TEST(Checkpoint, OpensSmolLm2) {
  const std::string path = FetchedModel("SmolLM2-135M-Instruct.Q4_1.gguf");
  if (path.empty()) GTEST_SKIP() << "THERMOCLINE_TEST_MODELS does not hold it (scripts/fetch-test-models.sh)";
  const auto checkpoint = Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  // As the gguf package's reader lists them.
  const ModelConfig& config = checkpoint->config;
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.activation, Activation::kSilu);
  EXPECT_EQ(config.n_layers, 30);
  EXPECT_EQ(config.d_model, 576);
  EXPECT_EQ(config.d_ff, 1536);
  EXPECT_EQ(config.n_heads, 9);
  EXPECT_EQ(config.n_kv_heads, 3);
  EXPECT_EQ(config.d_head, 64);
  EXPECT_EQ(config.n_vocab, 49152);
  EXPECT_EQ(config.context_length, 8192);
  EXPECT_FLOAT_EQ(static_cast<float>(config.norm_epsilon), 1e-5f);
  EXPECT_EQ(config.rope_theta, 100000.0);
  EXPECT_EQ(config.rope_dimensions, 64);
  EXPECT_TRUE(config.tied_head);
  EXPECT_EQ(checkpoint->tensors.tensors().size(), 272u);
  EXPECT_EQ(checkpoint->tensors.Matrix("token_embd.weight", 49152, 576)->type, ElementType::kQ8_0);
  EXPECT_EQ(checkpoint->tensors.Matrix("blk.29.ffn_down.weight", 576, 1536)->type, ElementType::kQ4_1);
  // As sha256sum prints it.
  EXPECT_EQ(checkpoint->Sha256(), "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
}

TEST(Checkpoint, OpensGemma3) {
  const std::string path = FetchedModel("gemma-3-270m-q4_k_m.gguf");
  if (path.empty()) GTEST_SKIP() << "THERMOCLINE_TEST_MODELS does not hold it (scripts/fetch-test-models.sh)";
  const auto checkpoint = Open(path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  // As the gguf package's reader and Gemma's published configuration list them.
  const ModelConfig& config = checkpoint->config;
  EXPECT_EQ(config.architecture, "gemma3");
  EXPECT_EQ(config.activation, Activation::kGeluTanh);
  EXPECT_EQ(config.n_layers, 18);
  EXPECT_EQ(config.d_head, 256);
  EXPECT_EQ(config.window.tokens, 512);
  EXPECT_TRUE(config.window.On(4));
  EXPECT_FALSE(config.window.On(5));
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.window.rope_theta, 1e4);
}

}  // namespace
}  // namespace thermocline
