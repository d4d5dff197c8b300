// SmolLM2-135M-Instruct against a numpy implementation (tests/support/golden/make_smollm2_golden.py).
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "model/checkpoint.h"
#include "model/weights.h"
#include "scheduler/evaluation.h"
#include "scheduler/transformer.h"
#include "tests/support/split_plans.h"

namespace thermocline {
namespace {

class SmolLm2 : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("THERMOCLINE_TEST_MODELS");
    if (folder == nullptr) GTEST_SKIP() << "THERMOCLINE_TEST_MODELS is not set";
    golden_ = nlohmann::json::parse(
        std::ifstream(THERMOCLINE_SOURCE_DIR "/tests/support/golden/smollm2_golden.json"));
    checkpoint_ = std::make_unique<Checkpoint>(
        *Checkpoint::Open(std::string(folder) + "/SmolLM2-135M-Instruct.Q4_1.gguf"));
    team_ = *ThreadTeam::Create(2);
    const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
    weights_ = *ModelWeights::Load(*checkpoint_, cpu);
    transformer_ = Load({.kv_type = ElementType::kF32, .pack_weights = false});
  }

  std::unique_ptr<Transformer> Load(TransformerOptions options) {
    options.context_tokens = 512;
    return *Transformer::Create(checkpoint_->config, weights_,
                                {.team = team_.get(), .kernels = &BestKernels()}, options);
  }
  double Perplexity(Transformer& transformer) {
    std::string text = *ReadTextFile(THERMOCLINE_SOURCE_DIR "/models/demo/valid.txt", 1 << 20);
    text.resize(golden_["text_bytes"].get<size_t>());
    const std::vector<TokenId> tokens = *checkpoint_->tokenizer->Encode(text, {.add_bos = false});
    EXPECT_EQ(tokens.size(), golden_["text_tokens"].get<size_t>());
    const EvaluationResult result =
        *Evaluate(transformer, tokens, {.window_tokens = golden_["window"].get<int64_t>()});
    EXPECT_EQ(result.scored_tokens, golden_["scored_tokens"].get<int64_t>());
    return result.perplexity();
  }

  nlohmann::json golden_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<ThreadTeam> team_;
  ModelWeights weights_;
  std::unique_ptr<Transformer> transformer_;
};

TEST_F(SmolLm2, GreedyTokensAndFirstLogitsMatch) {
  for (const auto& c : golden_["cases"]) {
    const auto prompt = c["prompt_ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(*checkpoint_->tokenizer->Encode(c["prompt"].get<std::string>(), {.parse_special = true}),
              prompt);
    std::vector<float> logits(static_cast<size_t>(transformer_->n_vocab()));
    ASSERT_TRUE(transformer_->Forward({.tokens = prompt}, logits).ok());
    for (const auto& [id, logit] : c["first_top_logits"].get<std::vector<std::pair<size_t, float>>>()) {
      EXPECT_NEAR(logits[id], logit, 2e-3f);
    }
    std::vector<TokenId> tokens;
    for (const TokenId expected : c["greedy_ids"].get<std::vector<TokenId>>()) {
      tokens.push_back(static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin()));
      ASSERT_EQ(tokens.back(), expected) << "token " << tokens.size() << " after " << c["prompt"];
      const auto position = static_cast<int64_t>(prompt.size() + tokens.size()) - 1;
      ASSERT_TRUE(
          transformer_->Forward({.tokens = {&tokens.back(), 1}, .first_position = position}, logits).ok());
    }
  }
}

TEST_F(SmolLm2, PerplexityMatches) {
  EXPECT_NEAR(Perplexity(*transformer_) / golden_["perplexity"].get<double>(), 1, 1e-3);
}

// Packed matrices, every other layer on the emulated accelerator.
TEST_F(SmolLm2, WholeLayersOnTwoDevicesGiveTheSameBits) {
  const Plan plan = testing::LayersPlan(checkpoint_->config, 0x55555555);
  const auto prompt = golden_["cases"][0]["prompt_ids"].get<std::vector<TokenId>>();
  const std::unique_ptr<Transformer> alone = Load({}), split = Load({.plan = &plan});
  std::vector<float> expected(static_cast<size_t>(alone->n_vocab())), logits = expected;
  ASSERT_TRUE(alone->Forward({.tokens = prompt}, expected).ok());
  ASSERT_TRUE(split->Forward({.tokens = prompt}, logits).ok());
  EXPECT_EQ(logits, expected);
}

// What rounding activations, and keys and values, to 8 bits costs.
TEST_F(SmolLm2, RoundingKeepsThePerplexity) {
  for (const ElementType type : {ElementType::kF16, ElementType::kQ8_0}) {
    const std::unique_ptr<Transformer> rounded = Load({.kv_type = type});
    EXPECT_NEAR(Perplexity(*rounded) / golden_["perplexity"].get<double>(), 1, 0.01) << NameOf(type);
  }
}

}  // namespace
}  // namespace thermocline
