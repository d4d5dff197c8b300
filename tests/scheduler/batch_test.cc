// Steps of several sequences over shared pages: each sequence gets the bits that it gets alone.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <optional>
#include <random>

#include "model/checkpoint.h"
#include "scheduler/transformer.h"
#include "tests/support/split_plans.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/typed_llama.h"

namespace thermocline {
namespace {

using testing::RandomPlan;
using testing::RandomTokens;
using testing::SignPredictors;

struct Sequence {
  std::vector<TokenId> tokens;
  std::vector<KvPage> pages;
  Quality quality = Quality::kExact;
  size_t done = 0;
  std::vector<std::vector<float>> logits;  // of the last token of every slice
  std::vector<std::vector<float>> alone;
};

class BatchTest : public ::testing::Test {
 protected:
  static constexpr size_t kSequences = 5, kTokens = 50, kPrompt = 20;

  void SetUp() override {
    ModelConfig config = TypedLlamaConfig();
    config.n_layers = 2;
    WriteTypedLlama(path_, config, ElementType::kF16, 3);
    checkpoint_.emplace(*Checkpoint::Open(path_, {.load_tokenizer = false}));
    team_ = *ThreadTeam::Create(2);
  }

  std::unique_ptr<Transformer> Load(TransformerOptions options) {
    const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
    weights_.push_back(std::make_unique<ModelWeights>(*ModelWeights::Load(*checkpoint_, cpu)));
    auto transformer = Transformer::Create(checkpoint_->config, *weights_.back(), cpu, options);
    EXPECT_TRUE(transformer.ok()) << transformer.status();
    return *std::move(transformer);
  }

  // Sequences whose pages lie anywhere; a prompt each, then single tokens.
  static std::vector<Sequence> Sequences(int64_t n_pages, bool predicts) {
    std::vector<KvPage> pages(static_cast<size_t>(n_pages));
    std::iota(pages.begin(), pages.end(), 0);
    std::shuffle(pages.begin(), pages.end(), std::mt19937(7));
    std::vector<Sequence> sequences(kSequences);
    for (size_t s = 0; s < kSequences; ++s) {
      sequences[s].tokens = RandomTokens(kTokens, static_cast<uint32_t>(s + 1));
      for (int64_t p = 0; p < PagesFor(kTokens); ++p) {
        sequences[s].pages.push_back(pages.back());
        pages.pop_back();
      }
      if (predicts)
        sequences[s].quality = std::array{Quality::kExact, Quality::kBalanced, Quality::kFast}[s % 3];
    }
    return sequences;
  }

  static void RunAlone(Transformer& transformer, Sequence& sequence) {
    std::vector<float> logits(64);
    const std::span<const TokenId> tokens = sequence.tokens;
    ASSERT_TRUE(
        transformer.Forward({.tokens = tokens.first(kPrompt), .kind = StepKind::kPrefill}, logits).ok());
    sequence.alone.push_back(logits);
    for (size_t t = kPrompt; t < kTokens; ++t) {
      ASSERT_TRUE(transformer
                      .Forward({.tokens = tokens.subspan(t, 1),
                                .first_position = static_cast<int64_t>(t),
                                .quality = sequence.quality},
                               logits)
                      .ok());
      sequence.alone.push_back(logits);
    }
  }

  // One step of `count` tokens of each of the sequences.
  static void Step(Transformer& transformer, std::span<Sequence*> sequences, size_t count, StepKind kind,
                   bool wants_logits) {
    std::vector<TokenId> tokens;
    std::vector<SequenceSlice> slices;
    for (Sequence* sequence : sequences) {
      const auto begin = sequence->tokens.begin() + static_cast<std::ptrdiff_t>(sequence->done);
      tokens.insert(tokens.end(), begin, begin + static_cast<std::ptrdiff_t>(count));
      slices.push_back({.n_tokens = static_cast<int64_t>(count),
                        .first_position = static_cast<int64_t>(sequence->done),
                        .pages = sequence->pages,
                        .quality = kind == StepKind::kDecode ? sequence->quality : Quality::kExact,
                        .wants_logits = wants_logits});
      sequence->done += count;
    }
    Matrix<float> logits =
        *Matrix<float>::Create(wants_logits ? static_cast<int64_t>(sequences.size()) : 0, 64);
    const absl::Status status =
        transformer.ForwardBatch({.tokens = tokens, .slices = slices, .kind = kind}, logits.view());
    ASSERT_TRUE(status.ok()) << status;
    for (size_t s = 0; wants_logits && s < sequences.size(); ++s) {
      const auto row = logits.row(static_cast<int64_t>(s));
      sequences[s]->logits.emplace_back(row.begin(), row.end());
    }
  }

  void ExpectCompanionsChangeNothing(const TransformerOptions& options) {
    const bool predicts = options.mode == NeuronMode::kPredicted;
    TransformerOptions batched = options;
    batched.context_tokens = 64;
    batched.kv_tokens = 64 * static_cast<int64_t>(kSequences);
    const std::unique_ptr<Transformer> transformer = Load(batched);
    std::vector<Sequence> sequences = Sequences(transformer->n_kv_pages(), predicts);
    for (Sequence& sequence : sequences) RunAlone(*transformer, sequence);

    std::mt19937 random(11);
    std::vector<Sequence*> order;
    for (Sequence& sequence : sequences) order.push_back(&sequence);
    // Prompts in two chunks, the first of several sequences at a time.
    Step(*transformer, std::span(order).first(3), kPrompt - 7, StepKind::kPrefill, false);
    Step(*transformer, std::span(order).subspan(3), kPrompt - 7, StepKind::kPrefill, false);
    Step(*transformer, order, 7, StepKind::kPrefill, true);
    // Then decoding in groups of changing size and order.
    while (!order.empty()) {
      std::shuffle(order.begin(), order.end(), random);
      const size_t size = 1 + random() % order.size();
      Step(*transformer, std::span(order).first(size), 1, StepKind::kDecode, true);
      std::erase_if(order, [](const Sequence* sequence) { return sequence->done == kTokens; });
    }
    for (size_t s = 0; s < kSequences; ++s) EXPECT_EQ(sequences[s].logits, sequences[s].alone) << s;
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_.Path("model.gguf");
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<ThreadTeam> team_;
  std::vector<std::unique_ptr<ModelWeights>> weights_;
};

TEST_F(BatchTest, CompanionsChangeNoBitInAnyMode) {
  const PredictorSet predictors = SignPredictors(checkpoint_->config, 3);
  ExpectCompanionsChangeNothing({.mode = NeuronMode::kDense});
  ExpectCompanionsChangeNothing({.mode = NeuronMode::kExact});
  ExpectCompanionsChangeNothing({.mode = NeuronMode::kPredicted, .predictors = &predictors});
}

TEST_F(BatchTest, CompanionsChangeNoBitOverTwoDevices) {
  const PredictorSet predictors = SignPredictors(checkpoint_->config, 3);
  const Plan plan = RandomPlan(checkpoint_->config, 0.4, 5);
  ExpectCompanionsChangeNothing({.mode = NeuronMode::kExact, .plan = &plan});
  ExpectCompanionsChangeNothing({.mode = NeuronMode::kPredicted, .predictors = &predictors, .plan = &plan});
}

TEST_F(BatchTest, SequencesMayShareThePagesOfACommonBeginning) {
  const std::unique_ptr<Transformer> transformer =
      Load({.context_tokens = 64, .kv_tokens = 128, .mode = NeuronMode::kExact});
  const std::vector<TokenId> tokens = RandomTokens(40, 1);
  Sequence first{.tokens = tokens, .pages = {4, 2, 6}};
  Sequence second{.tokens = tokens, .pages = {4, 2, 1}, .done = 2 * kKvPageTokens};  // two whole pages
  Sequence* one = &first;
  Sequence* other = &second;
  Step(*transformer, {&one, 1}, 40, StepKind::kPrefill, true);
  Step(*transformer, {&other, 1}, 8, StepKind::kPrefill, true);
  EXPECT_EQ(second.logits, first.logits);
}

TEST_F(BatchTest, AKvCacheSmallerThanTheContextIsRefused) {
  const CpuContext cpu{.team = team_.get(), .kernels = &BestKernels()};
  ModelWeights weights = *ModelWeights::Load(*checkpoint_, cpu);
  const auto refused =
      Transformer::Create(checkpoint_->config, weights, cpu, {.context_tokens = 64, .kv_tokens = 63});
  EXPECT_EQ(refused.status(), InvalidArgument("a KV cache of 63 tokens does not hold a context of 64"));
}

}  // namespace
}  // namespace thermocline
