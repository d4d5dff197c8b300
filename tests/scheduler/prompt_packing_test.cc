// Prompts of models whose neurons lie in bundles: packed while they are multiplied, the same whatever the
// cut.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/checkpoint.h"
#include "scheduler/transformer.h"
#include "tests/support/split_plans.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/typed_llama.h"

namespace thermocline {
namespace {

// What rounding activations to 8 bits may move the largest logit by: three layers of two roundings of at most
// 1/254 of a block's largest value, which random signs mostly cancel.
constexpr float kRoundingTolerance = 0.03f;

class PromptPackingTest : public ::testing::TestWithParam<ElementType> {
 protected:
  struct Model {
    ModelWeights weights;
    std::unique_ptr<Transformer> transformer;

    // Logits of the last token.
    std::vector<float> Step(std::span<const TokenId> tokens, int64_t first, StepKind kind) const {
      std::vector<float> logits(static_cast<size_t>(transformer->n_vocab()));
      const absl::Status done =
          transformer->Forward({.tokens = tokens, .first_position = first, .kind = kind}, logits);
      EXPECT_TRUE(done.ok()) << done;
      return logits;
    }
  };

  void SetUp() override {
    const std::string path = folder_.Path("model.gguf");
    WriteTypedLlama(path, TypedLlamaConfig(), GetParam(), 5);
    checkpoint_.emplace(*Checkpoint::Open(path, {.load_tokenizer = false}));
    tokens_ = testing::RandomTokens(21, 6);
  }

  std::unique_ptr<Model> Load(NeuronMode mode, bool pack_weights) const {
    auto model = std::make_unique<Model>();
    const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
    model->weights = *ModelWeights::Load(*checkpoint_, cpu);
    model->transformer = *Transformer::Create(checkpoint_->config, model->weights, cpu,
                                              {.pack_weights = pack_weights, .mode = mode});
    return model;
  }

  std::span<const TokenId> prompt() const { return std::span(tokens_).first(20); }
  std::span<const TokenId> answer() const { return std::span(tokens_).last(1); }

  TemporaryFolder folder_;
  std::optional<Checkpoint> checkpoint_;
  const std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(2);
  std::vector<TokenId> tokens_;
};

INSTANTIATE_TEST_SUITE_P(Types, PromptPackingTest,
                         ::testing::Values(ElementType::kQ4_0, ElementType::kQ8_0, ElementType::kQ4_K),
                         [](const auto& type) { return std::string(InfoOf(type.param).name); });

TEST_P(PromptPackingTest, RoundsActivationsAndNothingElse) {
  const auto packing = Load(NeuronMode::kDense, true), plain = Load(NeuronMode::kDense, false);
  const std::vector<float> rounded = packing->Step(prompt(), 0, StepKind::kPrefill);
  const std::vector<float> exact = plain->Step(prompt(), 0, StepKind::kPrefill);
  EXPECT_NE(rounded, exact);
  float largest = 0, difference = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    largest = std::max(largest, std::abs(exact[i]));
    difference = std::max(difference, std::abs(exact[i] - rounded[i]));
  }
  EXPECT_LE(difference, kRoundingTolerance * largest);
}

TEST_P(PromptPackingTest, TheCutOfAPromptDoesNotChangeABit) {
  const auto model = Load(NeuronMode::kExact, true);
  const std::vector<float> whole = model->Step(prompt(), 0, StepKind::kPrefill);
  std::vector<float> last;
  for (size_t i = 0; i < prompt().size(); ++i)
    last = model->Step(prompt().subspan(i, 1), static_cast<int64_t>(i), StepKind::kPrefill);
  EXPECT_EQ(whole, last);
}

TEST_P(PromptPackingTest, AnswersOfExactAndDenseModesStayTheSame) {
  const auto exact = Load(NeuronMode::kExact, true), dense = Load(NeuronMode::kDense, true);
  const auto next = static_cast<int64_t>(prompt().size());
  exact->Step(prompt(), 0, StepKind::kPrefill);
  dense->Step(prompt(), 0, StepKind::kPrefill);
  const std::vector<float> expected = dense->Step(answer(), next, StepKind::kDecode);
  EXPECT_EQ(exact->Step(answer(), next, StepKind::kDecode), expected);
  EXPECT_EQ(exact->Step(answer(), next, StepKind::kDenseDecode), expected);
}

}  // namespace
}  // namespace thermocline
