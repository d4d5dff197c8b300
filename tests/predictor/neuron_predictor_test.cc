// Marked neurons against a scalar reference, and what they must not depend on.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/neuron_predictor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <set>

#include "tests/predictor/predictor_testing.h"
#include "tests/support/allocation_counter.h"
#include "tests/support/reference.h"
#include "tests/support/reference_data.h"

namespace thermocline {
namespace {

using reference::FloatMatrix;
using reference::RandomWeights;

constexpr int64_t kModel = 96;     // d_model: not a multiple of 64
constexpr int64_t kNeurons = 330;  // d_ff

std::vector<uint32_t> Identity() {
  std::vector<uint32_t> neurons(kNeurons);
  std::iota(neurons.begin(), neurons.end(), 0u);
  return neurons;
}

// Three tables of random sizes that share the neurons, one of them empty; each in its own order.
std::vector<std::vector<uint32_t>> RandomTables(uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint32_t> neurons = Identity();
  std::ranges::shuffle(neurons, random);
  const auto border = neurons.begin() + static_cast<int64_t>(random() % kNeurons);
  return {{neurons.begin(), border}, {}, {border, neurons.end()}};
}

// The neurons that each token needs.
using NeuronSets = std::vector<std::set<uint32_t>>;

struct Fixture {
  explicit Fixture(PredictorKind the_kind, int threads = 2, uint64_t seed = 5)
      : team(*ThreadTeam::Create(threads)),
        context{.team = team.get(), .kernels = &BestKernels()},
        gate(ElementType::kQ8_0, kNeurons, kModel, 11),
        x(FloatMatrix::Random(kMostSparseTokens, kModel, 13)),
        predictor(the_kind == PredictorKind::kMlp ? testing::RandomMlp(kModel, kNeurons, 64, seed)
                                                  : testing::SomeSign()) {}

  NeuronSets Mark(const std::vector<std::vector<uint32_t>>& tables, MatrixView<const float> tokens,
                  const std::vector<Quality>& qualities) const {
    const auto created = NeuronPredictor::Create(context, predictor, tables, gate.view());
    auto scratch = NeuronPredictor::Scratch::Create(kModel, kNeurons, 128);
    std::vector<MarkedNeurons> marked(tables.size());
    for (size_t i = 0; i < tables.size(); ++i) {
      marked[i].rows.resize(tables[i].size());
      marked[i].tokens.resize(tables[i].size());
    }
    created->Predict(context, tokens, qualities, *scratch, marked);
    NeuronSets sets(qualities.size());
    for (size_t i = 0; i < tables.size(); ++i) {
      const NeuronSelection selection = marked[i].selection();
      EXPECT_TRUE(std::ranges::is_sorted(selection.rows));
      for (size_t k = 0; k < selection.rows.size(); ++k) {
        EXPECT_NE(selection.tokens[k], 0);
        for (size_t t = 0; t < sets.size(); ++t)
          if ((selection.tokens[k] >> t & 1) != 0) sets[t].insert(tables[i][selection.rows[k]]);
        EXPECT_EQ(selection.tokens[k] >> sets.size(), 0) << "a token that is not in the step";
      }
    }
    return sets;
  }

  std::unique_ptr<ThreadTeam> team;
  CpuContext context;
  RandomWeights gate;
  FloatMatrix x;  // (kMostSparseTokens, d_model)
  LayerPredictor predictor;
};

// A score and how far rounding may move it.
struct ReferenceScore {
  double value = 0;
  double error = 0;
};

ReferenceScore MlpScore(const LayerPredictor& predictor, std::span<const float> x, int64_t neuron) {
  constexpr double kEpsilon = std::numeric_limits<float>::epsilon();
  std::vector<float> hidden(static_cast<size_t>(predictor.hidden));
  double hidden_error = 0;
  for (int64_t h = 0; h < predictor.hidden; ++h) {
    const reference::Sum sum = reference::Dot(predictor.w1.view(), h, x);
    hidden[static_cast<size_t>(h)] =
        static_cast<float>(std::max(0.0, sum.value + predictor.b1[static_cast<size_t>(h)]));
    hidden_error = std::max(hidden_error, kEpsilon * kModel * (sum.magnitude + 1));
  }
  const reference::Sum sum = reference::Dot(predictor.w2.view(), neuron, hidden);
  const std::vector<float> weights =
      reference::Dequantize(ElementType::kQ8_0, predictor.w2.view().row_data(neuron), predictor.hidden);
  double error = kEpsilon * static_cast<double>(predictor.hidden) * (sum.magnitude + 1);
  for (const float weight : weights) error += std::abs(weight) * hidden_error;
  return {sum.value + predictor.b2[static_cast<size_t>(neuron)], error};
}

double SignScore(const WeightView& gate, std::span<const float> x, int64_t neuron) {
  double score = 0;
  const std::vector<float> row = reference::Dequantize(gate.type, gate.row_data(neuron), gate.cols);
  for (size_t c = 0; c < row.size(); ++c) score += (row[c] < 0) == (x[c] < 0) ? 1 : -1;
  return score;
}

TEST(NeuronPredictor, MlpMarksWhatTheReferenceMarks) {
  const Fixture fixture(PredictorKind::kMlp);
  const std::vector<Quality> qualities(kMostSparseTokens, Quality::kBalanced);
  const NeuronSets marked = fixture.Mark({Identity()}, fixture.x.view(), qualities);
  int64_t undecided = 0, active = 0;
  for (int64_t t = 0; t < kMostSparseTokens; ++t) {
    for (int64_t i = 0; i < kNeurons; ++i) {
      const ReferenceScore score = MlpScore(fixture.predictor, fixture.x.view().row(t), i);
      const double above = score.value - fixture.predictor.balanced_threshold;
      if (std::abs(above) <= score.error) {
        ++undecided;
        continue;
      }
      EXPECT_EQ(marked[static_cast<size_t>(t)].contains(static_cast<uint32_t>(i)), above > 0)
          << "token " << t << " neuron " << i << " score " << score.value;
      active += above > 0;
    }
  }
  EXPECT_LT(undecided, kNeurons * kMostSparseTokens / 100);
  EXPECT_GT(active, kNeurons * kMostSparseTokens / 10);
  EXPECT_LT(active, kNeurons * kMostSparseTokens * 9 / 10);
}

TEST(NeuronPredictor, SignMarksWhatTheReferenceMarks) {
  Fixture fixture(PredictorKind::kSign);
  const std::vector<Quality> qualities(kMostSparseTokens, Quality::kFast);
  const NeuronSets marked = fixture.Mark({Identity()}, fixture.x.view(), qualities);
  int64_t at_threshold = 0;
  for (int64_t t = 0; t < kMostSparseTokens; ++t) {
    for (int64_t i = 0; i < kNeurons; ++i) {
      const double score = SignScore(fixture.gate.view(), fixture.x.view().row(t), i);
      EXPECT_EQ(marked[static_cast<size_t>(t)].contains(static_cast<uint32_t>(i)),
                score >= fixture.predictor.fast_threshold);
      at_threshold += score == fixture.predictor.fast_threshold;
    }
  }
  EXPECT_GT(at_threshold, 0);
}

// What must be the same for both kinds.
class AnyPredictor : public ::testing::TestWithParam<PredictorKind> {};
INSTANTIATE_TEST_SUITE_P(Kinds, AnyPredictor, ::testing::Values(PredictorKind::kMlp, PredictorKind::kSign),
                         [](const auto& kind) { return std::string(NameOf(kind.param)); });

std::vector<Quality> MixedQualities() {
  std::vector<Quality> qualities;
  for (int64_t t = 0; t < kMostSparseTokens; ++t)
    qualities.push_back(t % 3 == 0 ? Quality::kFast : Quality::kBalanced);
  return qualities;
}

TEST_P(AnyPredictor, BatchesMarkWhatSingleTokensMark) {
  const Fixture fixture(GetParam());
  const std::vector<Quality> qualities = MixedQualities();
  const NeuronSets together = fixture.Mark({Identity()}, fixture.x.view(), qualities);
  for (int64_t t = 0; t < kMostSparseTokens; ++t) {
    const auto at = static_cast<size_t>(t);
    const NeuronSets alone = fixture.Mark({Identity()}, fixture.x.view().Rows(t, 1), {qualities[at]});
    EXPECT_EQ(alone[0], together[at]) << t;
    EXPECT_FALSE(alone[0].empty()) << t;
  }
}

// A token's threshold is that of its own quality, whatever its companions ask for.
TEST_P(AnyPredictor, QualitiesBelongToTheToken) {
  const Fixture fixture(GetParam());
  const std::vector<Quality> qualities = MixedQualities();
  const auto all = [&](Quality quality) {
    return fixture.Mark({Identity()}, fixture.x.view(), std::vector<Quality>(kMostSparseTokens, quality));
  };
  const NeuronSets mixed = fixture.Mark({Identity()}, fixture.x.view(), qualities);
  const NeuronSets balanced = all(Quality::kBalanced), fast = all(Quality::kFast);
  for (size_t t = 0; t < mixed.size(); ++t) {
    EXPECT_EQ(mixed[t], qualities[t] == Quality::kFast ? fast[t] : balanced[t]) << t;
    EXPECT_LT(fast[t].size(), balanced[t].size()) << t;
    EXPECT_TRUE(std::ranges::includes(balanced[t], fast[t])) << t;
  }
}

TEST_P(AnyPredictor, TablesOfAnyOrderHoldTheSameNeurons) {
  const Fixture fixture(GetParam());
  const NeuronSets whole = fixture.Mark({Identity()}, fixture.x.view(), MixedQualities());
  for (uint64_t seed = 1; seed <= 5; ++seed)
    EXPECT_EQ(fixture.Mark(RandomTables(seed), fixture.x.view(), MixedQualities()), whole) << seed;
}

TEST_P(AnyPredictor, ThreadsChangeNothing) {
  const NeuronSets one =
      Fixture(GetParam(), 1).Mark(RandomTables(3), Fixture(GetParam()).x.view(), MixedQualities());
  for (const int threads : {2, 3, 4}) {
    const Fixture fixture(GetParam(), threads);
    EXPECT_EQ(fixture.Mark(RandomTables(3), fixture.x.view(), MixedQualities()), one) << threads;
  }
}

TEST_P(AnyPredictor, EvaluationAllocatesNothing) {
  const Fixture fixture(GetParam(), 1);
  const std::vector<std::vector<uint32_t>> tables = RandomTables(2);
  const auto predictor =
      NeuronPredictor::Create(fixture.context, fixture.predictor, tables, fixture.gate.view());
  auto scratch = NeuronPredictor::Scratch::Create(kModel, kNeurons, 64);
  std::vector<MarkedNeurons> marked(tables.size());
  for (size_t i = 0; i < tables.size(); ++i) {
    marked[i].rows.resize(tables[i].size());
    marked[i].tokens.resize(tables[i].size());
  }
  const std::vector<Quality> qualities = MixedQualities();
  const int64_t before = AllocationsOfThisThread();
  predictor->Predict(fixture.context, fixture.x.view(), qualities, *scratch, marked);
  EXPECT_EQ(AllocationsOfThisThread(), before);
  EXPECT_GT(marked[0].count + marked[2].count, 0);
}

TEST_P(AnyPredictor, SizesAreThoseOfTheSet) {
  const Fixture fixture(GetParam());
  const auto predictor =
      NeuronPredictor::Create(fixture.context, fixture.predictor, RandomTables(4), fixture.gate.view());
  EXPECT_EQ(predictor->size_bytes(), fixture.predictor.SizeBytes(kModel, kNeurons));
  EXPECT_EQ(predictor->hidden(), fixture.predictor.hidden);
}

}  // namespace
}  // namespace thermocline
