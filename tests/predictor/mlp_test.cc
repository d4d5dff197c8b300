// Scores, loss and gradient against a plain implementation in double.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/mlp.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace thermocline {
namespace {

constexpr MlpShape kShape{.d_model = 24, .hidden = 32, .d_ff = 70};
constexpr int64_t kTokens = 9;
constexpr double kPositiveWeight = 3;

struct Problem {
  Problem() : mlp(*Mlp::Create(kShape)), x(*Matrix<float>::Create(kTokens, kShape.d_model)) {
    std::mt19937_64 random(11);
    std::normal_distribution<float> normal(0, 1);
    for (float& parameter : mlp.parameters()) parameter = 0.3f * normal(random);
    for (int64_t t = 0; t < kTokens; ++t)
      for (float& value : x.row(t)) value = normal(random);
    for (int64_t t = 0; t < kTokens; ++t) {
      active.row(t)[0] = random();
      active.row(t)[1] = random() & 0x3F;
    }
  }
  bool Active(int64_t t, int64_t i) const { return (active.row(t)[i < 64 ? 0 : 1] >> (i % 64) & 1u) != 0; }

  Mlp mlp;
  Matrix<float> x;
  Matrix<uint64_t> active = *Matrix<uint64_t>::Create(kTokens, 2);
};

// (n_tokens, d_ff), with `shift` added to parameter `shifted`.
std::vector<double> SlowScores(const Problem& problem, size_t shifted, double shift) {
  std::vector<double> parameters(problem.mlp.parameters().begin(), problem.mlp.parameters().end());
  parameters[shifted] += shift;
  const double* w1 = parameters.data();
  const double* w2 = w1 + kShape.hidden * kShape.d_model;
  const double* b1 = w2 + kShape.d_ff * kShape.hidden;
  const double* b2 = b1 + kShape.hidden;
  std::vector<double> scores;
  for (int64_t t = 0; t < kTokens; ++t) {
    std::vector<double> hidden;
    for (int64_t h = 0; h < kShape.hidden; ++h) {
      double sum = b1[h];
      for (int64_t c = 0; c < kShape.d_model; ++c)
        sum += w1[h * kShape.d_model + c] * static_cast<double>(problem.x.view().row_data(t)[c]);
      hidden.push_back(std::max(sum, 0.0));
    }
    for (int64_t i = 0; i < kShape.d_ff; ++i) {
      double sum = b2[i];
      for (int64_t h = 0; h < kShape.hidden; ++h)
        sum += w2[i * kShape.hidden + h] * hidden[static_cast<size_t>(h)];
      scores.push_back(sum);
    }
  }
  return scores;
}

double SlowLoss(const Problem& problem, const std::vector<double>& scores) {
  double loss = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    for (int64_t i = 0; i < kShape.d_ff; ++i) {
      const double probability = 1 / (1 + std::exp(-scores[static_cast<size_t>(t * kShape.d_ff + i)]));
      loss -= problem.Active(t, i) ? kPositiveWeight * std::log(probability) : std::log(1 - probability);
    }
  }
  return loss / static_cast<double>(kTokens);
}

class MlpTest : public ::testing::TestWithParam<int> {
 protected:
  const std::unique_ptr<ThreadTeam> team_ = *ThreadTeam::Create(GetParam());
  const CpuContext context_{.team = team_.get(), .kernels = &BestKernels()};
};

TEST_P(MlpTest, ScoresAndLossAreThoseOfTheDefinition) {
  const Problem problem;
  const auto view = [](MatrixView<const float> matrix) {
    return WeightView{reinterpret_cast<const std::byte*>(matrix.data), ElementType::kF32, matrix.rows,
                      matrix.cols, matrix.stride * static_cast<int64_t>(sizeof(float))};
  };
  auto hidden = *Matrix<float>::Create(kTokens, kShape.hidden);
  auto scores = *Matrix<float>::Create(kTokens, kShape.d_ff);
  MlpScores(context_, view(problem.mlp.w1()), problem.mlp.b1(), view(problem.mlp.w2()), problem.mlp.b2(),
            problem.x.view(), hidden.view(), scores.view());
  const std::vector<double> expected = SlowScores(problem, 0, 0);
  // Sums of some 30 products of size 1 in F32.
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t i = 0; i < kShape.d_ff; ++i)
      ASSERT_NEAR(scores.view().row_data(t)[i], expected[static_cast<size_t>(t * kShape.d_ff + i)], 1e-5);
  const double loss = SlowLoss(problem, expected);
  EXPECT_NEAR(MlpLoss(context_, scores.view(), problem.active.view(), kPositiveWeight), loss, 1e-5 * loss);
}

TEST_P(MlpTest, LossOfExtremeScoresIsFiniteAndExact) {
  auto scores = *Matrix<float>::Create(1, 4);
  auto active = *Matrix<uint64_t>::Create(1, 1);
  scores.row(0)[0] = 500;   // active: right
  scores.row(0)[1] = -500;  // active: wrong, by 500 nats
  scores.row(0)[2] = 300;   // silent: wrong, by 300 nats
  scores.row(0)[3] = -300;
  active.row(0)[0] = 0b0011;
  EXPECT_DOUBLE_EQ(MlpLoss(context_, scores.view(), active.view(), 2), 2 * 500 + 300);
}

TEST_P(MlpTest, GradientEqualsFiniteDifferences) {
  const Problem problem;
  auto scratch = *MlpScratch::Create(kShape, kTokens + 3);
  auto gradient = *Mlp::Create(kShape);
  MlpGradient(context_, problem.mlp, problem.x.view(), problem.active.view(), kPositiveWeight, scratch,
              gradient);
  constexpr double kStep = 1e-5;  // too small to carry a hidden unit over its kink, for these numbers
  for (size_t p = 0; p < gradient.parameters().size(); p += 5) {
    const double difference = (SlowLoss(problem, SlowScores(problem, p, kStep)) -
                               SlowLoss(problem, SlowScores(problem, p, -kStep))) /
                              (2 * kStep);
    // F32 sums of up to 70 products, each of them below 1.
    ASSERT_NEAR(gradient.parameters()[p], difference, 2e-5 * (1 + std::abs(difference))) << p;
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, MlpTest, ::testing::Values(1, 3));

}  // namespace
}  // namespace thermocline
