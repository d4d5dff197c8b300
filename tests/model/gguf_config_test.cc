// ModelConfig from GGUF metadata: what is read, what is assumed, what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

constexpr char kFile[] = "tiny.gguf";

absl::StatusOr<ModelConfig> Read(const GgufWriter& writer, std::optional<Activation> activation = {}) {
  const ExactBytes bytes(writer.Bytes());
  TC_ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Parse(bytes.span(), kFile));
  return ConfigFromGguf(gguf, activation);
}

TEST(GgufConfig, ReadsTheKeys) {
  const auto config = Read(TinyLlamaGguf().SetFloat("llama.rope.freq_base", 500000.0f));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "llama");
  EXPECT_EQ(config->activation, Activation::kSilu);
  EXPECT_TRUE(config->gated);
  EXPECT_EQ(config->n_layers, 2);
  EXPECT_EQ(config->d_model, 32);
  EXPECT_EQ(config->d_ff, 64);
  EXPECT_EQ(config->n_heads, 4);
  EXPECT_EQ(config->n_kv_heads, 2);
  EXPECT_EQ(config->d_head, 8);
  EXPECT_EQ(config->n_vocab, 16);
  EXPECT_EQ(config->context_length, 64);
  EXPECT_FLOAT_EQ(static_cast<float>(config->norm_epsilon), 1e-5f);
  EXPECT_EQ(config->rope_theta, 500000.0);
  EXPECT_EQ(config->rope_dimensions, 8);
  EXPECT_EQ(config->rope_pairing, RopePairing::kInterleaved);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_TRUE(config->rope_scaling.frequency_divisors.empty());
  EXPECT_FALSE(config->tied_head);
}

TEST(GgufConfig, ReadsWindowsLayerByLayer) {
  const auto with = [](const std::string& flags) {
    GgufWriter writer = TinyLlamaGguf().SetUint("llama.attention.sliding_window", 8);
    writer.Set("llama.attention.sliding_window_pattern", GgufWriter::kArray,
               LittleEndian<uint32_t>(GgufWriter::kBool) + LittleEndian<uint64_t>(flags.size()) + flags);
    return Read(writer.SetFloat("llama.rope.freq_base_swa", 5000.0f));
  };
  const auto config = with(std::string("\1\0", 2));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->window.On(0));
  EXPECT_FALSE(config->window.On(1));
  EXPECT_EQ(config->window.rope_theta, 5000.0);
  ExpectRefusal(with(std::string("\1\0\1", 3)).status(), {kFile, "3 layers", "limit is 2"});
}

TEST(GgufConfig, AssumesWhatIsAbsent) {
  const auto config =
      Read(TinyLlamaGguf().Remove("llama.attention.head_count_kv").RemoveTensor("output.weight"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_kv_heads, 4);
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_TRUE(config->tied_head);
}

TEST(GgufConfig, HonoursOptionalKeys) {
  const auto config = Read(
      TinyLlamaGguf()
          .SetUint("llama.attention.key_length", 16)
          .SetUint("llama.attention.value_length", 16)
          .SetUint("llama.rope.dimension_count", 4)
          .SetUint("llama.vocab_size", 12)
          .SetString("llama.rope.scaling.type", "linear")
          .SetFloat("llama.rope.scaling.factor", 4.0f)
          .AddTensor("rope_freqs.weight", {2}, ElementType::kF32, LittleEndian(1.0f) + LittleEndian(8.0f)),
      Activation::kRelu);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->d_head, 16);
  EXPECT_EQ(config->rope_dimensions, 4);
  EXPECT_EQ(config->n_vocab, 12);
  EXPECT_EQ(config->activation, Activation::kRelu);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(config->rope_scaling.factor, 4.0);
  EXPECT_THAT(config->rope_scaling.frequency_divisors, testing::ElementsAre(1.0f, 8.0f));
  const auto older = Read(TinyLlamaGguf().SetFloat("llama.rope.scale_linear", 2.0f));
  ASSERT_TRUE(older.ok()) << older.status();
  EXPECT_EQ(older->rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(older->rope_scaling.factor, 2.0);
  EXPECT_EQ(Read(TinyLlamaGguf().SetString("llama.rope.scaling.type", "none"))->rope_scaling.kind,
            RopeScaling::Kind::kNone);
}

TEST(GgufConfig, ReadsOurActivationKeys) {
  const auto fatrelu = [](std::optional<Activation> activation = {}) {
    return Read(TinyLlamaGguf()
                    .SetString("thermocline.activation", "fatrelu")
                    .SetFloat("thermocline.activation_threshold", 0.25f),
                activation);
  };
  ASSERT_TRUE(fatrelu().ok()) << fatrelu().status();
  EXPECT_EQ(fatrelu()->activation_function(), ActivationFunction(Activation::kFatRelu, 0.25f));
  EXPECT_EQ(fatrelu(Activation::kFatRelu)->activation_threshold, 0.25f);
  // The threshold is FATReLU's alone.
  EXPECT_EQ(fatrelu(Activation::kRelu)->activation_function(), ActivationFunction(Activation::kRelu));
  EXPECT_EQ(Read(TinyLlamaGguf().SetString("thermocline.activation", "relu"))->activation, Activation::kRelu);
  EXPECT_EQ(Read(TinyLlamaGguf().SetString("thermocline.activation", "gelu"), Activation::kSilu)->activation,
            Activation::kSilu);
  ExpectRefusal(Read(TinyLlamaGguf(), Activation::kFatRelu).status(),
                {kFile, "'thermocline.activation_threshold' is missing"});
}

struct Row {
  std::string name;
  std::function<void(GgufWriter&)> damage;
  std::vector<std::string> words;
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

std::function<void(GgufWriter&)> FatRelu(float threshold) {
  return [threshold](GgufWriter& w) {
    w.SetString("thermocline.activation", "fatrelu").SetFloat("thermocline.activation_threshold", threshold);
  };
}

const Row kRows[] = {
    {"no_architecture",
     [](GgufWriter& w) { w.Remove("general.architecture"); },
     {"'general.architecture' is missing"}},
    {"unknown_architecture",
     [](GgufWriter& w) { w.SetString("general.architecture", "grok"); },
     {"architecture 'grok' is not supported", "known are llama"}},
    {"architecture_with_control_characters",
     [](GgufWriter& w) { w.SetString("general.architecture", "a\nb"); },
     {"'a\\x0ab'"}},
    {"architecture_is_a_number",
     [](GgufWriter& w) { w.SetUint("general.architecture", 1); },
     {"'general.architecture' must be a string"}},
    {"experts",
     [](GgufWriter& w) { w.SetUint("llama.expert_count", 8); },
     {"llama.expert_count is 8", "mixtures of experts"}},
    {"no_block_count",
     [](GgufWriter& w) { w.Remove("llama.block_count"); },
     {"'llama.block_count' is missing"}},
    {"block_count_is_a_float",
     [](GgufWriter& w) { w.SetFloat("llama.block_count", 2); },
     {"'llama.block_count' must be an unsigned integer", "a float"}},
    {"block_count_above_63_bits",
     [](GgufWriter& w) { w.Set("llama.block_count", GgufWriter::kUint64, LittleEndian(UINT64_MAX)); },
     {"'llama.block_count' is 18446744073709551615", "limit"}},
    {"no_epsilon",
     [](GgufWriter& w) { w.Remove("llama.attention.layer_norm_rms_epsilon"); },
     {"'llama.attention.layer_norm_rms_epsilon' is missing"}},
    {"no_context",
     [](GgufWriter& w) { w.Remove("llama.context_length"); },
     {"'llama.context_length' is missing"}},
    {"no_heads",
     [](GgufWriter& w) { w.SetUint("llama.attention.head_count", 0); },
     {"n_heads is 0", "limit"}},
    {"heads_do_not_divide",
     [](GgufWriter& w) { w.SetUint("llama.attention.head_count", 5); },
     {"llama.attention.head_count is 5", "divisor of the embedding length 32"}},
    {"heads_for_each_layer",
     [](GgufWriter& w) {
       w.SetInts("llama.attention.head_count_kv", {2, 2});
     },
     {"'llama.attention.head_count_kv' must be an unsigned integer", "an array"}},
    {"value_length_differs",
     [](GgufWriter& w) { w.SetUint("llama.attention.value_length", 4); },
     {"llama.attention.value_length is 4", "limit is the key length 8"}},
    {"unknown_scaling",
     [](GgufWriter& w) { w.SetString("llama.rope.scaling.type", "yarn"); },
     {"llama.rope.scaling.type is 'yarn'", "known are none, linear"}},
    {"linear_without_factor",
     [](GgufWriter& w) { w.SetString("llama.rope.scaling.type", "linear"); },
     {"'llama.rope.scaling.factor' is missing"}},
    {"divisors_of_wrong_length",
     [](GgufWriter& w) { w.AddTensor("rope_freqs.weight", {3}); },
     {"'rope_freqs.weight' must have shape [4], found [3]"}},
    {"divisor_zero",
     [](GgufWriter& w) { w.AddTensor("rope_freqs.weight", {4}, ElementType::kF32, std::string(16, '\0')); },
     {"divisor 0 is 0", "limit"}},
    {"unknown_activation",
     [](GgufWriter& w) { w.SetString("thermocline.activation", "ge\nlu"); },
     {"thermocline.activation is 'ge\\x0alu'", "known are relu, silu, fatrelu"}},
    {"activation_is_a_number",
     [](GgufWriter& w) { w.SetUint("thermocline.activation", 2); },
     {"'thermocline.activation' must be a string"}},
    {"fatrelu_without_threshold",
     [](GgufWriter& w) { w.SetString("thermocline.activation", "fatrelu"); },
     {"'thermocline.activation_threshold' is missing"}},
    {"threshold_negative", FatRelu(-0.5f), {"thermocline.activation_threshold is -0.5", "the limit is 0 to"}},
    {"threshold_infinite", FatRelu(INFINITY), {"thermocline.activation_threshold is inf", "limit"}},
    {"threshold_not_a_number", FatRelu(NAN), {"thermocline.activation_threshold is nan", "limit"}},
    {"no_vocabulary",
     [](GgufWriter& w) { w.RemoveTensor("token_embd.weight"); },
     {"neither metadata key 'llama.vocab_size' nor tensor 'token_embd.weight'"}},
};

class RefusedGgufConfig : public testing::TestWithParam<Row> {};

TEST_P(RefusedGgufConfig, NamesKeyAndLimit) {
  GgufWriter writer = TinyLlamaGguf();
  GetParam().damage(writer);
  std::vector<std::string> words = GetParam().words;
  words.push_back(kFile);
  ExpectRefusal(Read(writer).status(), words);
}

INSTANTIATE_TEST_SUITE_P(Table, RefusedGgufConfig, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& row) { return row.param.name; });

}  // namespace
}  // namespace thermocline
