// Sampling against distributions computed by hand and by counting.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

namespace thermocline {
namespace {

constexpr int kDraws = 20000;

struct Sampling {
  std::vector<float> logits;
  SamplingOptions options;
  TokenHistory history;
  std::vector<TokenId> banned;

  std::optional<TokenId> Once(uint64_t seed = 1) const {
    SplitMix64 random(seed);
    SamplerScratch scratch;
    return SampleToken(logits, options, history, banned, random, scratch);
  }
  // Share of each token among kDraws draws of one stream.
  std::map<TokenId, double> Shares() const {
    SplitMix64 random(42);
    SamplerScratch scratch;
    std::map<TokenId, double> shares;
    for (int i = 0; i < kDraws; ++i) {
      shares[*SampleToken(logits, options, history, banned, random, scratch)] += 1.0 / kDraws;
    }
    return shares;
  }
};

// Four standard deviations of a share estimated from kDraws draws.
double Tolerance(double p) { return 4 * std::sqrt(p * (1 - p) / kDraws); }

TEST(Sampler, GreedyTakesTheLikeliestAndTheLowerIdOfEquals) {
  Sampling s{.logits = {1, 3, 3, 2}};
  EXPECT_EQ(s.Once(), 1);
  s.banned = {1};
  EXPECT_EQ(s.Once(), 2);
}

TEST(Sampler, GreedyLooksAtEveryTokenOfALargeVocabulary) {
  constexpr size_t kTokens = 1003;  // no multiple of any vector
  Sampling sampling{.logits = std::vector<float>(kTokens, -std::numeric_limits<float>::infinity()),
                    .options = {.temperature = 0}};
  for (const size_t place : {size_t{0}, size_t{15}, size_t{255}, size_t{256}, size_t{700}, kTokens - 1}) {
    std::vector<float>& logits = sampling.logits;
    logits[place] = -3.0f;
    EXPECT_EQ(sampling.Once(), static_cast<TokenId>(place));
    logits[place] = std::numeric_limits<float>::quiet_NaN();
    logits[500] = 1.0f;
    EXPECT_EQ(sampling.Once(), std::nullopt) << place;
    logits[place] = logits[500] = -std::numeric_limits<float>::infinity();
  }
}

TEST(Sampler, TemperatureGivesSoftmaxShares) {
  for (const double temperature : {0.5, 1.0, 2.0}) {
    const Sampling s{.logits = {0.0f, 1.0f, 2.0f, -1.0f}, .options = {.temperature = temperature}};
    double sum = 0;
    for (const float logit : s.logits) sum += std::exp(logit / temperature);
    auto shares = s.Shares();
    for (size_t id = 0; id < s.logits.size(); ++id) {
      const double p = std::exp(s.logits[id] / temperature) / sum;
      EXPECT_NEAR(shares[static_cast<TokenId>(id)], p, Tolerance(p)) << temperature << " " << id;
    }
  }
}

TEST(Sampler, TopKKeepsTheLikeliest) {
  const Sampling s{.logits = {0, 3, 1, 2}, .options = {.temperature = 1, .top_k = 2}};
  auto shares = s.Shares();
  EXPECT_EQ(shares.size(), 2u);
  const double p = 1 / (1 + std::exp(-1.0));
  EXPECT_NEAR(shares[1], p, Tolerance(p));
  EXPECT_NEAR(shares[3], 1 - p, Tolerance(p));
}

TEST(Sampler, TopPKeepsTheLeastSetThatReachesIt) {
  // Probabilities 0.5, 0.3, 0.15, 0.05.
  Sampling s{.logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)},
             .options = {.temperature = 1, .top_p = 0.75}};
  EXPECT_EQ(s.Shares().size(), 2u);
  s.options.top_p = 0.85;
  EXPECT_EQ(s.Shares().size(), 3u);
  s.options.top_p = 0.01;
  EXPECT_EQ(s.Shares().size(), 1u);
}

TEST(Sampler, TopPOverManyTokensSortsOnlyWhatItNeeds) {
  // 1000 equal tokens: half of the mass is 500 of them, and ties go to the lower ids.
  const Sampling s{.logits = std::vector<float>(1000, 0.0f), .options = {.temperature = 1, .top_p = 0.5}};
  for (const auto& [id, share] : s.Shares()) EXPECT_LT(id, 500);
}

TEST(Sampler, MinPDropsWhatIsFarBelowTheLikeliest) {
  const Sampling s{.logits = {std::log(0.6f), std::log(0.3f), std::log(0.1f)},
                   .options = {.temperature = 1, .min_p = 0.25}};
  EXPECT_EQ(s.Shares().size(), 2u);
}

TEST(Sampler, PenaltiesAndBiasMoveLogits) {
  Sampling s{.logits = {2.0f, 1.9f, -1.0f}, .options = {.repetition_penalty = 1.2}};
  s.history.AddPrompt(std::vector<TokenId>{0});
  EXPECT_EQ(s.Once(), 1);  // 2.0 / 1.2 < 1.9

  s.options = {.presence_penalty = 0.2};
  EXPECT_EQ(s.Once(), 0);  // prompt tokens do not count
  s.history.AddGenerated(0);
  EXPECT_EQ(s.Once(), 1);

  s.options = {.frequency_penalty = 0.06};
  EXPECT_EQ(s.Once(), 0);  // once: 1.94
  s.history.AddGenerated(0);
  EXPECT_EQ(s.Once(), 1);  // twice: 1.88

  s.options = {.logit_bias = {{2, 5.0}}};
  EXPECT_EQ(s.Once(), 2);
}

TEST(Sampler, RepetitionPenaltyLowersNegativeLogitsToo) {
  Sampling s{.logits = {-1.0f, -1.1f}, .options = {.repetition_penalty = 1.5}};
  s.history.AddPrompt(std::vector<TokenId>{0});
  EXPECT_EQ(s.Once(), 1);
}

TEST(Sampler, SameSeedSameTokens) {
  const Sampling s{.logits = {0, 0.1f, 0.2f, 0.3f, 0.4f}, .options = {.temperature = 1}};
  int different = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(s.Once(seed), s.Once(seed));
    different += s.Once(seed) != s.Once(seed + 1);
  }
  EXPECT_GT(different, 10);
}

TEST(Sampler, NonFiniteLogitsAreNeverSampled) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const double temperature : {0.0, 1.0}) {
    const SamplingOptions options{.temperature = temperature};
    EXPECT_EQ((Sampling{{0, nan, 1}, options, {}, {}}.Once()), std::nullopt);
    EXPECT_EQ((Sampling{{0, inf, 1}, options, {}, {}}.Once()), std::nullopt);
    EXPECT_EQ((Sampling{{-inf, -inf}, options, {}, {}}.Once()), std::nullopt);
    EXPECT_EQ((Sampling{{-inf, 1}, options, {}, {}}.Once()), 1);
  }
}

TEST(Sampler, LogprobsAreLogSoftmax) {
  const std::vector<float> logits = {1.0f, 2.0f, 3.0f, 2.0f};
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const TokenLogprob result = LogprobOf(logits, 0, 3);
  EXPECT_NEAR(result.logprob, 1.0 - std::log(sum), 1e-6);
  ASSERT_EQ(result.top.size(), 3u);
  EXPECT_EQ(result.top[0].first, 2);
  EXPECT_EQ(result.top[1].first, 1);
  EXPECT_EQ(result.top[2].first, 3);
  EXPECT_NEAR(result.top[0].second, 3.0 - std::log(sum), 1e-6);
  EXPECT_TRUE(LogprobOf(logits, 1, 0).top.empty());
}

}  // namespace
}  // namespace thermocline
