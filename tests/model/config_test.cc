// Validate: every range, divisibility and product, by the words of its refusal.
// SPDX-License-Identifier: Apache-2.0
#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

struct Row {
  std::string name;
  std::function<void(ModelConfig&)> damage;
  std::vector<std::string> words;
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

void MakeLlama3(ModelConfig& c) {
  c.rope_scaling.kind = RopeScaling::Kind::kLlama3;
  c.rope_scaling.factor = 8;
  c.rope_scaling.original_context_length = 32;
}

const Row kRows[] = {
    {"no_layers", [](ModelConfig& c) { c.n_layers = 0; }, {"n_layers is 0", "limit is 1 to 4096"}},
    {"negative_layers", [](ModelConfig& c) { c.n_layers = -1; }, {"n_layers is -1", "limit"}},
    {"many_layers", [](ModelConfig& c) { c.n_layers = 4097; }, {"n_layers is 4097", "limit"}},
    {"d_model", [](ModelConfig& c) { c.d_model = 1 << 21; }, {"d_model is 2097152", "limit is 1 to 1048576"}},
    {"d_ff", [](ModelConfig& c) { c.d_ff = 0; }, {"d_ff is 0", "limit"}},
    {"no_heads", [](ModelConfig& c) { c.n_heads = 0; }, {"n_heads is 0", "limit"}},
    {"no_kv_heads", [](ModelConfig& c) { c.n_kv_heads = 0; }, {"n_kv_heads is 0", "limit is 1 to 4"}},
    {"kv_heads_above_heads",
     [](ModelConfig& c) { c.n_kv_heads = 5; },
     {"n_kv_heads is 5", "limit is 1 to 4"}},
    {"kv_heads_do_not_divide",
     [](ModelConfig& c) { c.n_kv_heads = 3; },
     {"n_heads is 4", "multiple of n_kv_heads, which is 3"}},
    {"odd_head", [](ModelConfig& c) { c.d_head = 9; }, {"d_head is 9", "even"}},
    {"no_head", [](ModelConfig& c) { c.d_head = 0; }, {"d_head is 0", "limit"}},
    {"odd_rope", [](ModelConfig& c) { c.rope_dimensions = 3; }, {"rope_dimensions is 3", "even"}},
    {"rope_beyond_head",
     [](ModelConfig& c) { c.rope_dimensions = 10; },
     {"rope_dimensions is 10", "limit is 2 to 8"}},
    {"vocabulary",
     [](ModelConfig& c) { c.n_vocab = int64_t{1} << 31; },
     {"n_vocab is 2147483648", "limit is 1 to 2147483647"}},
    {"context", [](ModelConfig& c) { c.context_length = 0; }, {"context_length is 0", "limit"}},
    {"epsilon_zero", [](ModelConfig& c) { c.norm_epsilon = 0; }, {"norm_epsilon is 0", "limit is above 0"}},
    {"epsilon_nan", [](ModelConfig& c) { c.norm_epsilon = std::nan(""); }, {"norm_epsilon is nan", "limit"}},
    {"theta_infinite",
     [](ModelConfig& c) { c.rope_theta = std::numeric_limits<double>::infinity(); },
     {"rope_theta is inf", "limit"}},
    {"theta_negative", [](ModelConfig& c) { c.rope_theta = -1; }, {"rope_theta is -1", "limit"}},
    {"linear_factor",
     [](ModelConfig& c) { c.rope_scaling = {.kind = RopeScaling::Kind::kLinear, .factor = 0}; },
     {"rope_scaling factor is 0", "limit"}},
    {"llama3_low",
     [](ModelConfig& c) {
       MakeLlama3(c);
       c.rope_scaling.low_freq_factor = -1;
     },
     {"low_freq_factor is -1", "limit"}},
    {"llama3_high",
     [](ModelConfig& c) {
       MakeLlama3(c);
       c.rope_scaling.high_freq_factor = 1;
     },
     {"high_freq_factor is 1", "limit is above low_freq_factor 1"}},
    {"llama3_context",
     [](ModelConfig& c) {
       MakeLlama3(c);
       c.rope_scaling.original_context_length = 0;
     },
     {"original_max_position_embeddings is 0", "limit"}},
    {"divisor_count",
     [](ModelConfig& c) {
       c.rope_scaling.frequency_divisors = {1, 1, 1};
     },
     {"divisors are 3", "limit is 4"}},
    {"divisor_zero",
     [](ModelConfig& c) {
       c.rope_scaling.frequency_divisors = {1, 0, 1, 1};
     },
     {"divisor 1 is 0", "limit"}},
    {"cache_product",
     [](ModelConfig& c) {
       c.n_layers = 4096;
       c.context_length = INT32_MAX;
       c.n_heads = c.n_kv_heads = 65536;
       c.d_head = 64;
     },
     {"KV cache", "limit of 2305843009213693951"}},
};

class InvalidConfig : public testing::TestWithParam<Row> {};

TEST_P(InvalidConfig, IsRefusedByFieldValueAndLimit) {
  ModelConfig config = TinyLlamaConfig();
  ASSERT_TRUE(Validate(config, "config.json").ok());
  GetParam().damage(config);
  std::vector<std::string> words = GetParam().words;
  words.push_back("config.json");
  ExpectRefusal(Validate(config, "config.json"), words);
}

INSTANTIATE_TEST_SUITE_P(Table, InvalidConfig, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& row) { return row.param.name; });

TEST(ValidConfig, WithEveryScaling) {
  ModelConfig config = TinyLlamaConfig();
  MakeLlama3(config);
  EXPECT_TRUE(Validate(config, "config.json").ok());
  config.rope_scaling = {.kind = RopeScaling::Kind::kLinear, .factor = 2, .frequency_divisors = {1, 1, 2, 8}};
  EXPECT_TRUE(Validate(config, "config.json").ok());
}

}  // namespace
}  // namespace thermocline
