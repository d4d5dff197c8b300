// ModelConfig from config.json: what is read, what is assumed, what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "model/huggingface_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/refusal.h"
#include "tests/support/safetensors_writer.h"

namespace thermocline {
namespace {

constexpr char kFile[] = "folder/config.json";

// The tiny configuration with the fields of `change` replaced; a null removes the field's meaning.
std::string Changed(const std::string& change) {
  auto json = nlohmann::json::parse(TinyLlamaConfigJson());
  json.update(nlohmann::json::parse(change));
  return json.dump();
}

absl::StatusOr<ModelConfig> Read(const std::string& change) {
  return ConfigFromHuggingFace(Changed(change), kFile);
}

TEST(HuggingFaceConfig, ReadsTheFields) {
  const auto config = Read(R"({"rope_theta": 500000, "tie_word_embeddings": true, "hidden_act": "relu"})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->architecture, "llama");
  EXPECT_EQ(config->activation, Activation::kRelu);
  EXPECT_TRUE(config->gated);
  EXPECT_EQ(config->n_layers, 2);
  EXPECT_EQ(config->d_model, 32);
  EXPECT_EQ(config->d_ff, 64);
  EXPECT_EQ(config->n_heads, 4);
  EXPECT_EQ(config->n_kv_heads, 2);
  EXPECT_EQ(config->d_head, 8);
  EXPECT_EQ(config->n_vocab, 16);
  EXPECT_EQ(config->context_length, 64);
  EXPECT_EQ(config->norm_epsilon, 1e-5);
  EXPECT_EQ(config->rope_theta, 500000.0);
  EXPECT_EQ(config->rope_dimensions, 8);
  EXPECT_EQ(config->rope_pairing, RopePairing::kHalf);
  EXPECT_EQ(config->rope_scaling.kind, RopeScaling::Kind::kNone);
  EXPECT_TRUE(config->tied_head);
}

// The defaults of transformers' LlamaConfig.
TEST(HuggingFaceConfig, AssumesWhatIsAbsentOrNull) {
  const auto config =
      Read(R"({"architectures": null, "num_key_value_heads": null, "rms_norm_eps": null, "hidden_act": null,
                               "tie_word_embeddings": null, "rope_scaling": null, "head_dim": null})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->n_kv_heads, 4);
  EXPECT_EQ(config->d_head, 8);
  EXPECT_EQ(config->norm_epsilon, 1e-6);
  EXPECT_EQ(config->rope_theta, 10000.0);
  EXPECT_EQ(config->activation, Activation::kSilu);
  EXPECT_FALSE(config->tied_head);
}

TEST(HuggingFaceConfig, HeadDimensionAndOverride) {
  EXPECT_EQ(Read(R"({"head_dim": 16})")->d_head, 16);
  const auto config = ConfigFromHuggingFace(Changed(R"({"hidden_act": "gelu"})"), kFile, Activation::kRelu);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->activation, Activation::kRelu);
}

TEST(HuggingFaceConfig, FatReluHasItsThreshold) {
  const auto config = Read(R"({"hidden_act": "fatrelu", "hidden_act_param": 0.01})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->activation_function(), ActivationFunction(Activation::kFatRelu, 0.01f));
  // Other activations have none, whatever the file says.
  EXPECT_EQ(Read(R"({"hidden_act": "relu", "hidden_act_param": 0.01})")->activation_threshold, 0.0f);
}

TEST(HuggingFaceConfig, RopeScalingOfBothSpellings) {
  for (const char* key : {"type", "rope_type"}) {
    const auto linear = Read(std::string(R"({"rope_scaling": {"factor": 2.5, ")") + key + R"(": "linear"}})");
    ASSERT_TRUE(linear.ok()) << linear.status();
    EXPECT_EQ(linear->rope_scaling.kind, RopeScaling::Kind::kLinear);
    EXPECT_EQ(linear->rope_scaling.factor, 2.5);
  }
  EXPECT_EQ(Read(R"({"rope_scaling": {"rope_type": "default"}})")->rope_scaling.kind,
            RopeScaling::Kind::kNone);
  const auto llama3 =
      Read(R"({"rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "high_freq_factor": 4.0,
      "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}})");
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(llama3->rope_scaling.factor, 8.0);
  EXPECT_EQ(llama3->rope_scaling.low_freq_factor, 1.0);
  EXPECT_EQ(llama3->rope_scaling.high_freq_factor, 4.0);
  EXPECT_EQ(llama3->rope_scaling.original_context_length, 8192);
  EXPECT_TRUE(llama3->rope_scaling.frequency_divisors.empty());
}

TEST(HuggingFaceConfig, RopeParametersOfTransformers5) {
  const auto plain = Read(R"({"rope_parameters": {"rope_theta": 250000.0, "rope_type": "default"}})");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(plain->rope_theta, 250000.0);
  EXPECT_EQ(plain->rope_scaling.kind, RopeScaling::Kind::kNone);
  const auto llama3 =
      Read(R"({"rope_parameters": {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 32,
      "high_freq_factor": 4, "low_freq_factor": 1, "original_max_position_embeddings": 8192}})");
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->rope_theta, 500000.0);
  EXPECT_EQ(llama3->rope_scaling.kind, RopeScaling::Kind::kLlama3);
  EXPECT_EQ(llama3->rope_scaling.factor, 32.0);
}

struct Row {
  std::string name;
  std::string change;
  std::vector<std::string> words;
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

const Row kRows[] = {
    {"unknown_class",
     R"({"architectures": ["GrokForCausalLM"]})",
     {"architecture 'GrokForCausalLM' is not supported", "known are llama (LlamaForCausalLM)"}},
    {"two_classes",
     R"({"architectures": ["LlamaForCausalLM", "LlamaForCausalLM"]})",
     {"architectures must be an array of one string"}},
    {"no_class_and_unknown_type",
     R"({"architectures": null, "model_type": "grok"})",
     {"architecture 'grok' is not supported", "known are"}},
    {"no_class_and_no_type", R"({"architectures": null, "model_type": null})", {"model_type is missing"}},
    {"class_and_type_disagree",
     R"({"model_type": "mistral"})",
     {"model_type is 'mistral'", "expected 'llama'"}},
    {"unknown_activation",
     R"({"hidden_act": "quick_gelu"})",
     {"hidden_act", "'quick_gelu'", "known are relu, silu, fatrelu, gelu"}},
    {"fatrelu_without_threshold", R"({"hidden_act": "fatrelu"})", {"hidden_act_param is missing"}},
    {"threshold_is_a_string",
     R"({"hidden_act": "fatrelu", "hidden_act_param": "0.01"})",
     {"hidden_act_param must be a number, found string"}},
    {"threshold_negative",
     R"({"hidden_act": "fatrelu", "hidden_act_param": -1e-3})",
     {"hidden_act_param is -0.001", "the limit is 0 to"}},
    {"threshold_above_floats",
     R"({"hidden_act": "fatrelu", "hidden_act_param": 1e39})",
     {"hidden_act_param is 1e+39", "limit"}},
    {"activation_is_a_number", R"({"hidden_act": 1})", {"hidden_act must be a string, found number"}},
    {"attention_bias_is_a_number", R"({"attention_bias": 1})", {"attention_bias must be a boolean"}},
    {"mlp_bias", R"({"mlp_bias": true})", {"mlp_bias is true", "limit is false"}},
    {"bias_is_a_number", R"({"mlp_bias": 1})", {"mlp_bias must be a boolean"}},
    {"quantised", R"({"quantization_config": {"quant_method": "gptq"}})", {"quantization_config"}},
    {"partial_rotation", R"({"partial_rotary_factor": 1.5})", {"partial_rotary_factor is 1.5", "at most 1"}},
    {"no_rotation", R"({"partial_rotary_factor": 0})", {"partial_rotary_factor is 0", "above 0"}},
    {"odd_rotation", R"({"partial_rotary_factor": 0.4})", {"rope_dimensions is 3", "even"}},
    {"no_hidden_size", R"({"hidden_size": null})", {"hidden_size is missing"}},
    {"no_layers", R"({"num_hidden_layers": 0})", {"n_layers is 0", "limit is 1 to"}},
    {"negative_layers", R"({"num_hidden_layers": -2})", {"n_layers is -2", "limit"}},
    {"layers_are_a_fraction", R"({"num_hidden_layers": 2.5})", {"num_hidden_layers must be an integer"}},
    {"layers_above_63_bits",
     R"({"num_hidden_layers": 18446744073709551615})",
     {"num_hidden_layers is 18446744073709551615", "limit"}},
    {"heads_do_not_divide",
     R"({"num_attention_heads": 5})",
     {"num_attention_heads is 5", "divisor of hidden_size 32"}},
    {"no_heads", R"({"num_attention_heads": 0})", {"n_heads is 0", "limit"}},
    {"kv_heads_do_not_divide", R"({"num_key_value_heads": 3})", {"n_heads is 4", "n_kv_heads, which is 3"}},
    {"unknown_scaling",
     R"({"rope_scaling": {"type": "yarn", "factor": 2}})",
     {"rope_scaling type 'yarn' is not supported", "known are default, linear, llama3"}},
    {"scaling_without_type", R"({"rope_scaling": {"factor": 2}})", {"rope_scaling.type is missing"}},
    {"scaling_types_disagree",
     R"({"rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 2}})",
     {"'llama3'", "'linear'", "must agree"}},
    {"scaling_is_a_string",
     R"({"rope_scaling": "linear"})",
     {"rope_scaling must be an object, found string"}},
    {"linear_without_factor", R"({"rope_scaling": {"type": "linear"}})", {"rope_scaling.factor is missing"}},
    {"llama3_without_context",
     R"({"rope_scaling": {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}})",
     {"rope_scaling.original_max_position_embeddings is missing"}},
    {"both_rope_objects",
     R"({"rope_scaling": {"type": "default"}, "rope_parameters": {"rope_type": "default"}})",
     {"both rope_parameters and rope_scaling", "limit"}},
    {"partial_rotation_of_parameters",
     R"({"rope_parameters": {"partial_rotary_factor": -0.25}})",
     {"partial_rotary_factor is -0.25", "above 0"}},
};

class RefusedHuggingFaceConfig : public testing::TestWithParam<Row> {};

TEST_P(RefusedHuggingFaceConfig, NamesFieldAndLimit) {
  std::vector<std::string> words = GetParam().words;
  words.push_back(kFile);
  ExpectRefusal(Read(GetParam().change).status(), words);
}

INSTANTIATE_TEST_SUITE_P(Table, RefusedHuggingFaceConfig, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& row) { return row.param.name; });

TEST(HuggingFaceConfig, HostileJson) {
  const auto refuse = [](const std::string& text, const std::vector<std::string>& words) {
    ExpectRefusal(ConfigFromHuggingFace(text, kFile).status(), words);
  };
  refuse("", {kFile, "not valid JSON at byte"});
  refuse("[]", {kFile, "must be an object, found array"});
  refuse("5", {kFile, "must be an object, found number"});
  refuse("{} {}", {kFile, "not valid JSON"});
  refuse(R"({"hidden_size": 1, "hidden_size": 2})", {kFile, "'hidden_size' is given twice", "limit is once"});
  refuse(R"({"a": [{"b": 1, "b": 1}]})", {kFile, "'b' is given twice"});
  refuse("{\"a\":" + std::string(1'000'000, '['), {kFile, "nested deeper than the limit of 64"});
  refuse("{\"a\": 1e999}", {kFile, "not valid JSON"});
  const std::string valid = TinyLlamaConfigJson();
  for (size_t size = 0; size < valid.size(); ++size) refuse(valid.substr(0, size), {kFile, "not valid JSON"});
}

}  // namespace
}  // namespace thermocline
