// Sums over steps and audits.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/step_figures.h"

#include <gtest/gtest.h>

#include <cmath>

namespace thermocline {
namespace {

TEST(StepSums, AddUpEveryFigure) {
  StepSums sums;
  EXPECT_EQ(sums.bytes_per_token(), 0);
  sums.Add({.neurons = 10,
            .marked_neurons = 4,
            .active_neurons = 3,
            .active_on_accelerators = 2,
            .bytes = 100,
            .neuron_bytes = 60});
  sums.Add({.neurons = 10, .marked_neurons = 5, .active_neurons = 1, .bytes = 51, .neuron_bytes = 20});
  EXPECT_EQ(sums.tokens, 2);
  const StepFigures expected{.neurons = 20,
                             .marked_neurons = 9,
                             .active_neurons = 4,
                             .active_on_accelerators = 2,
                             .bytes = 151,
                             .neuron_bytes = 80};
  EXPECT_EQ(sums.total, expected);
  EXPECT_EQ(sums.bytes_per_token(), 75.5);
}

TEST(ShareOf, BytesAreDividedAndNeuronsCountForEach) {
  const StepFigures step{
      .neurons = 50, .marked_neurons = 20, .active_neurons = 7, .bytes = 1000, .neuron_bytes = 600};
  int64_t bytes = 0, neuron_bytes = 0;
  for (int64_t token = 0; token < 7; ++token) {
    const StepFigures share = ShareOf(step, token, 7);
    EXPECT_EQ(share.marked_neurons, 20);
    EXPECT_NEAR(static_cast<double>(share.bytes), 1000.0 / 7, 1);
    bytes += share.bytes;
    neuron_bytes += share.neuron_bytes;
  }
  EXPECT_EQ(bytes, 1000);
  EXPECT_EQ(neuron_bytes, 600);
  EXPECT_EQ(ShareOf(step, 0, 1), step);
}

TEST(AuditSums, RecallIsOfNeuronsAndDistancesAreOfTokens) {
  AuditSums sums;
  sums.Add({.active_neurons = 30, .marked_active_neurons = 30, .kl_divergence = 0.25, .same_top = true});
  sums.Add({.active_neurons = 10, .marked_active_neurons = 6, .kl_divergence = 0.75, .same_top = false});
  EXPECT_EQ(sums.tokens, 2);
  EXPECT_EQ(sums.recall(), 0.9);
  EXPECT_EQ(sums.kl_mean(), 0.5);
  EXPECT_EQ(sums.kl_max, 0.75);
  EXPECT_EQ(sums.top1_agreement(), 0.5);
}

TEST(AuditSums, NothingAuditedIsNothingMissed) {
  const AuditSums sums;
  EXPECT_EQ(sums.recall(), 1);
  EXPECT_EQ(sums.kl_mean(), 0);
  EXPECT_EQ(sums.top1_agreement(), 1);
}

TEST(AuditSums, LogitsThatAreNoNumbersAreLeftOut) {
  AuditSums sums;
  sums.Add({.active_neurons = 4, .marked_active_neurons = 3, .kl_divergence = 0.5});
  sums.Add({.active_neurons = 9, .kl_divergence = NAN});
  EXPECT_EQ(sums.tokens, 1);
  EXPECT_EQ(sums.recall(), 0.75);
  EXPECT_EQ(sums.kl_mean(), 0.5);
}

}  // namespace
}  // namespace thermocline
