// The forward pass on the shipped model, against goldens computed with numpy (models/demo/make_golden.py).
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "scheduler/evaluation.h"

namespace thermocline {
namespace {

constexpr char kModel[] = THERMOCLINE_SOURCE_DIR "/models/demo";

// Logits of the goldens are rounded to five decimals and computed in another order.
constexpr float kLogitTolerance = 2e-3f;

const Checkpoint& DemoCheckpoint() {
  static const Checkpoint* checkpoint = new Checkpoint(*Checkpoint::Open(kModel));
  return *checkpoint;
}

const nlohmann::json& Golden() {
  static const auto* golden =
      new nlohmann::json(nlohmann::json::parse(std::ifstream(std::string(kModel) + "/golden.json")));
  return *golden;
}

struct Setup {
  int threads = 2;
  std::string_view isa = {};  // empty: the best
  FfnLayout layout = FfnLayout::kAuto;
  TransformerOptions transformer;
};

// The demo model, ready to run.
struct Demo {
  explicit Demo(const Setup& setup = {}) {
    team = *ThreadTeam::Create(setup.threads);
    cpu = {.team = team.get(), .kernels = setup.isa.empty() ? &BestKernels() : *KernelsFor(setup.isa)};
    weights = *ModelWeights::Load(DemoCheckpoint(), cpu, {.ffn_layout = setup.layout});
    transformer = *Transformer::Create(DemoCheckpoint().config, weights, cpu, setup.transformer);
  }

  std::vector<float> Prefill(std::span<const TokenId> tokens) const {
    std::vector<float> logits(static_cast<size_t>(transformer->n_vocab()));
    for (size_t begin = 0; begin < tokens.size();) {
      const size_t count =
          std::min(tokens.size() - begin, static_cast<size_t>(transformer->max_step_tokens()));
      EXPECT_TRUE(transformer
                      ->Forward({.tokens = tokens.subspan(begin, count),
                                 .first_position = static_cast<int64_t>(begin)},
                                logits)
                      .ok());
      begin += count;
    }
    return logits;
  }

  std::vector<TokenId> Greedy(std::span<const TokenId> prompt, size_t count) const {
    std::vector<float> logits = Prefill(prompt);
    std::vector<TokenId> tokens;
    for (auto position = static_cast<int64_t>(prompt.size());; ++position) {
      tokens.push_back(static_cast<TokenId>(std::ranges::max_element(logits) - logits.begin()));
      if (tokens.size() == count || tokens.back() == 2) return tokens;
      EXPECT_TRUE(
          transformer->Forward({.tokens = {&tokens.back(), 1}, .first_position = position}, logits).ok());
    }
  }

  std::unique_ptr<ThreadTeam> team;
  CpuContext cpu;
  ModelWeights weights;
  std::unique_ptr<Transformer> transformer;
};

std::vector<TokenId> LongText(size_t count) {
  const std::string text = *ReadTextFile(std::string(kModel) + "/valid.txt", 1 << 20);
  std::vector<TokenId> tokens = *DemoCheckpoint().tokenizer->Encode(text, {});
  tokens.resize(count);
  return tokens;
}

float LargestDifference(std::span<const float> a, std::span<const float> b) {
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST(DemoModel, PromptsTokeniseAsTheGoldens) {
  for (const auto& c : Golden()["cases"]) {
    EXPECT_EQ(*DemoCheckpoint().tokenizer->Encode(c["prompt"].get<std::string>(), {}),
              c["prompt_ids"].get<std::vector<TokenId>>());
  }
}

// The numpy model keeps its keys and values in more than 16 bits, and rounds no activations.
const TransformerOptions kAsTheGoldens{.kv_type = ElementType::kF32, .pack_weights = false};

TEST(DemoModel, FirstLogitsMatchTheGoldens) {
  const Demo demo({.transformer = kAsTheGoldens});
  int compared = 0;
  for (const auto& c : Golden()["cases"]) {
    if (!c.contains("first_logits")) continue;
    const auto expected = c["first_logits"].get<std::vector<float>>();
    const std::vector<float> logits = demo.Prefill(c["prompt_ids"].get<std::vector<TokenId>>());
    ASSERT_EQ(logits.size(), expected.size());
    EXPECT_LT(LargestDifference(logits, expected), kLogitTolerance) << c["prompt"];
    ++compared;
  }
  EXPECT_EQ(compared, 3);
}

TEST(DemoModel, GreedyTokensMatchTheGoldensOnEveryInstructionSet) {
  for (const std::string_view isa : AvailableIsas()) {
    const Demo demo({.isa = isa});
    for (const auto& c : Golden()["cases"]) {
      const auto expected = c["greedy_ids"].get<std::vector<TokenId>>();
      EXPECT_EQ(demo.Greedy(c["prompt_ids"].get<std::vector<TokenId>>(), expected.size()), expected)
          << isa << ": " << c["prompt"];
    }
  }
}

// Rounding keys and values to 11 bits, or to steps of 1/127 of the largest of 32, moves scores and sums by
// that share; layers add up and partly cancel. Logits are of the order of 10.
TEST(DemoModel, RoundedKeysAndValuesMoveLogitsALittle) {
  const Demo exact({.transformer = kAsTheGoldens});
  const Demo half({.transformer = {.kv_type = ElementType::kF16, .pack_weights = false}});
  const Demo bytes({.transformer = {.kv_type = ElementType::kQ8_0, .pack_weights = false}});
  for (const auto& c : Golden()["cases"]) {
    const auto prompt = c["prompt_ids"].get<std::vector<TokenId>>();
    const std::vector<float> expected = exact.Prefill(prompt), of_half = half.Prefill(prompt);
    EXPECT_LT(LargestDifference(of_half, expected), 10 * 0x1p-11) << c["prompt"];
    EXPECT_NE(of_half, expected);
    EXPECT_LT(LargestDifference(bytes.Prefill(prompt), expected), 10 * 2.0 / 127) << c["prompt"];
    const auto greedy = c["greedy_ids"].get<std::vector<TokenId>>();
    EXPECT_EQ(half.Greedy(prompt, greedy.size()), greedy) << c["prompt"];
  }
}

TEST(DemoModel, PerplexityMatchesTheGolden) {
  const Demo demo({.transformer = kAsTheGoldens});
  const auto text_tokens = Golden()["text_tokens"].get<size_t>();
  const auto window = Golden()["windows"].get<int64_t>();
  // The goldens put a BOS before the text once, not before each window.
  const EvaluationResult result =
      *Evaluate(*demo.transformer, LongText(text_tokens), {.window_tokens = window});
  EXPECT_EQ(result.scored_tokens,
            static_cast<int64_t>(text_tokens) - static_cast<int64_t>(text_tokens) / window);
  EXPECT_NEAR(result.perplexity(), Golden()["perplexity"].get<double>(), 1e-3);
}

TEST(Transformer, BlocksAndSingleTokensGiveTheSameLogits) {
  const std::vector<TokenId> tokens = LongText(200);
  const std::vector<float> whole = Demo({.transformer = {.block_tokens = 200}}).Prefill(tokens);
  for (const int64_t block : {1, 7, 64}) {
    const std::vector<float> logits = Demo({.transformer = {.block_tokens = block}}).Prefill(tokens);
    EXPECT_LT(LargestDifference(logits, whole), 1e-4f) << block;
  }
}

TEST(Transformer, ThreadCountDoesNotChangeABit) {
  const std::vector<TokenId> tokens = LongText(150);
  const std::vector<float> one = Demo({.threads = 1}).Prefill(tokens);
  for (const int threads : {2, 3, 4}) EXPECT_EQ(Demo({.threads = threads}).Prefill(tokens), one) << threads;
}

TEST(Transformer, BundlesAndMatricesAgree) {
  const std::vector<TokenId> tokens = LongText(150);
  const TransformerOptions plain{.pack_weights = false};
  const Demo bundles({.layout = FfnLayout::kBundles, .transformer = plain});
  const Demo matrices({.layout = FfnLayout::kMatrices, .transformer = plain});
  EXPECT_EQ(bundles.weights.layers[0].ffn.layout, FfnLayout::kBundles);
  EXPECT_EQ(matrices.weights.layers[0].ffn.layout, FfnLayout::kMatrices);
  EXPECT_EQ(bundles.weights.bytes_per_token(), matrices.weights.bytes_per_token());
  EXPECT_LT(LargestDifference(bundles.Prefill(tokens), matrices.Prefill(tokens)), 1e-3f);
}

// Logits of the demo model are up to some tens.
TEST(Transformer, PackedMatricesAreAlmostAsExact) {
  const std::vector<TokenId> tokens = LongText(150);
  const Demo plain({.layout = FfnLayout::kMatrices, .transformer = {.pack_weights = false}});
  const Demo packed({.layout = FfnLayout::kMatrices});
  const float difference = LargestDifference(plain.Prefill(tokens), packed.Prefill(tokens));
  EXPECT_GT(difference, 0);
  EXPECT_LT(difference, 5e-3f);
}

TEST(Transformer, ForwardAllGivesWhatForwardGivesStepByStep) {
  const Demo demo;
  const std::vector<TokenId> tokens = LongText(40);
  Matrix<float> all = *Matrix<float>::Create(40, demo.transformer->n_vocab());
  ASSERT_TRUE(demo.transformer->ForwardAll({.tokens = tokens}, all.view()).ok());
  for (const size_t count : {size_t{1}, size_t{17}, size_t{40}}) {
    const std::vector<float> logits = demo.Prefill(std::span(tokens).first(count));
    EXPECT_LT(LargestDifference(all.row(static_cast<int64_t>(count) - 1), logits), 1e-4f) << count;
  }
}

TEST(Transformer, EarlierPositionsAreTheContextAndLaterOnesAreForgotten) {
  const Demo demo;
  const std::vector<TokenId> tokens = LongText(60);
  const std::vector<float> before = demo.Prefill(std::span(tokens).first(30));
  demo.Prefill(tokens);  // fills positions 30 to 59
  EXPECT_EQ(demo.Prefill(std::span(tokens).first(30)), before);
}

TEST(Transformer, StepsOutsideTheContextAreRefused) {
  const Demo demo({.transformer = {.context_tokens = 16, .block_tokens = 8}});
  std::vector<float> logits(static_cast<size_t>(demo.transformer->n_vocab()));
  const std::vector<TokenId> tokens(9, 5);
  const auto forward = [&](size_t count, int64_t position) {
    return demo.transformer->Forward({.tokens = std::span(tokens).first(count), .first_position = position},
                                     logits);
  };
  EXPECT_TRUE(forward(8, 8).ok());
  EXPECT_EQ(forward(9, 0), InvalidArgument("a step of 9 tokens, allowed are 1 to 8"));
  EXPECT_EQ(forward(0, 0), InvalidArgument("a step of 0 tokens, allowed are 1 to 8"));
  EXPECT_EQ(forward(8, 9), OutOfRange("positions 9 to 16 are outside the context of 16 tokens"));
  EXPECT_EQ(forward(1, -1).code(), absl::StatusCode::kOutOfRange);
  const TokenId beyond = 4096;
  EXPECT_EQ(demo.transformer->Forward({.tokens = {&beyond, 1}}, logits),
            InvalidArgument("token 4096 is outside the vocabulary of 4096"));
}

TEST(Transformer, ContextAboveTheModelsIsRefused) {
  Demo demo;
  const auto refused =
      Transformer::Create(DemoCheckpoint().config, demo.weights, demo.cpu, {.context_tokens = 513});
  EXPECT_EQ(refused.status(), InvalidArgument("--context is 513, the model's context is 512 tokens"));
}

}  // namespace
}  // namespace thermocline
