// Gemma 3 270M against the Hugging Face implementation (tests/support/golden/make_gemma3_golden.py).
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

namespace thermocline {
namespace {

class Gemma3 : public testing::Test {
 protected:
  void SetUp() override {
    const char* folder = std::getenv("THERMOCLINE_TEST_MODELS");
    if (folder == nullptr) GTEST_SKIP() << "THERMOCLINE_TEST_MODELS is not set";
    golden_ = nlohmann::json::parse(
        std::ifstream(THERMOCLINE_SOURCE_DIR "/tests/support/golden/gemma3_golden.json"));
    checkpoint_ =
        std::make_unique<Checkpoint>(*Checkpoint::Open(std::string(folder) + "/gemma-3-270m-q4_k_m.gguf"));
    team_ = *ThreadTeam::Create(2);
    const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
    weights_ = *ModelWeights::Load(*checkpoint_, cpu);
    transformer_ = *Transformer::Create(
        checkpoint_->config, weights_, cpu,
        {.context_tokens = 768, .kv_type = ElementType::kF32, .block_tokens = 64, .pack_weights = false});
  }

  nlohmann::json golden_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<ThreadTeam> team_;
  ModelWeights weights_;
  std::unique_ptr<Transformer> transformer_;
};

TEST_F(Gemma3, GreedyTokensAndFirstLogitsMatch) {
  for (const auto& c : golden_["cases"]) {
    const auto prompt = c["prompt_ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(*checkpoint_->tokenizer->Encode(c["prompt"].get<std::string>(), {}), prompt);
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

TEST_F(Gemma3, PerplexityMatches) {
  std::string text = *ReadTextFile(THERMOCLINE_SOURCE_DIR "/models/demo/valid.txt", 1 << 20);
  text.resize(golden_["text_bytes"].get<size_t>());
  const std::vector<TokenId> tokens = *checkpoint_->tokenizer->Encode(text, {.add_bos = false});
  EXPECT_EQ(tokens.size(), golden_["text_tokens"].get<size_t>());
  const EvaluationResult result =
      *Evaluate(*transformer_, tokens,
                {.window_tokens = golden_["window"].get<int64_t>(), .bos = golden_["bos"].get<TokenId>()});
  EXPECT_EQ(result.scored_tokens, golden_["scored_tokens"].get<int64_t>());
  const auto expected = golden_["perplexity"].get<double>();
  EXPECT_NEAR(result.perplexity(), expected, 1e-3 * expected);
}

}  // namespace
}  // namespace thermocline
