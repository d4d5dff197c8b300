// Synthetic models: shapes, refusals, the distribution of planted frequencies, determinism.
// SPDX-License-Identifier: Apache-2.0
#include "model/synthetic_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/mapped_file.h"
#include "model/checkpoint.h"
#include "model/planted_frequencies.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

SyntheticOptions Tiny() {
  return {.shape = {.n_layers = 2, .d_model = 64, .d_ff = 96, .n_heads = 4, .n_kv_heads = 2, .n_vocab = 600}};
}

TEST(SyntheticShape, KnowsNamesAndNumbers) {
  const auto named = ParseSyntheticShape("70b");
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->d_ff, 28672);
  EXPECT_EQ(named->n_kv_heads, 8);
  const auto numbers = ParseSyntheticShape("d_model=64,d_ff=96,layers=2,heads=4,kv-heads=1,vocab=600");
  ASSERT_TRUE(numbers.ok()) << numbers.status();
  EXPECT_EQ(numbers->n_layers, 2);
  EXPECT_EQ(numbers->n_kv_heads, 1);
  EXPECT_EQ(numbers->n_vocab, 600);
}

TEST(SyntheticShape, RefusesWhatIsNone) {
  const std::string all = "d_model=64,d_ff=96,layers=2,heads=4,kv-heads=1,vocab=600";
  ExpectRefusal(ParseSyntheticShape("8b").status(), {"'8b'", "7b", "kv-heads="});
  ExpectRefusal(ParseSyntheticShape("").status(), {"''", "known are"});
  ExpectRefusal(ParseSyntheticShape("d_model=64").status(), {"layers is missing"});
  ExpectRefusal(ParseSyntheticShape(all + ",heads=4").status(), {"heads is given twice"});
  ExpectRefusal(ParseSyntheticShape(all + ",experts=4").status(), {"'experts=4' is unknown"});
  ExpectRefusal(ParseSyntheticShape("layers=-1").status(), {"layers is '-1'"});
  ExpectRefusal(ParseSyntheticShape("layers=99999999999999999999").status(), {"layers is '9999"});
}

TEST(SyntheticModel, RefusesSillyOptions) {
  const auto refused = [](void (*change)(SyntheticOptions&), const std::vector<std::string>& words) {
    SyntheticOptions options = Tiny();
    change(options);
    ExpectRefusal(SyntheticModel::Create(options).status(), words);
  };
  refused(
      [](SyntheticOptions& o) {
        o.shape.n_heads = 3;
        o.shape.n_kv_heads = 3;
      },
      {"shape", "3 heads", "divisor of d_model 64"});
  refused([](SyntheticOptions& o) { o.shape.n_kv_heads = 3; },
          {"shape", "n_heads is 4", "multiple of n_kv_heads"});
  refused([](SyntheticOptions& o) { o.shape.n_heads = 64; }, {"shape", "d_head is 1"});
  refused([](SyntheticOptions& o) { o.shape.d_model = 72; },
          {"shape", "d_model 72", "multiple of 32", "Q4_0"});
  refused([](SyntheticOptions& o) { o.shape.d_ff = 100; }, {"shape", "d_ff 100", "multiple of 32"});
  refused([](SyntheticOptions& o) { o.shape.n_vocab = 100; }, {"shape", "vocab 100", "512"});
  refused([](SyntheticOptions& o) { o.shape.n_layers = 0; }, {"shape", "n_layers is 0"});
  refused([](SyntheticOptions& o) { o.type = ElementType::kQ6_K; }, {"type", "Q6_K", "q4_0"});
  refused([](SyntheticOptions& o) { o.sparsity = 1; }, {"sparsity", "is 1", "0.999"});
  refused([](SyntheticOptions& o) { o.sparsity = NAN; }, {"sparsity", "nan"});
  refused([](SyntheticOptions& o) { o.skew = 0.01; }, {"skew", "0.01", "0.8"});
  refused([](SyntheticOptions& o) { o.skew = 0.81; }, {"skew", "0.81", "0.8"});
  refused([](SyntheticOptions& o) { o.predictability = 1; }, {"predictability", "0.999"});
  refused([](SyntheticOptions& o) { o.rank = 48; }, {"rank", "48", "16", "32"});
  refused([](SyntheticOptions& o) { o.rank = 17; }, {"rank", "17", "multiple of 16"});
}

TEST(PlantedFrequencies, MeetMeanAndShare) {
  for (const double density : {0.02, 0.1, 0.5}) {
    for (const double share : {0.8, 0.6, 0.45}) {
      const auto spread = SpreadForShare(density, share);
      ASSERT_TRUE(spread.ok()) << spread.status();
      std::vector<double> frequencies;
      for (const float quantile : PlantedQuantiles(density, *spread, 5000, 1, 2))
        frequencies.push_back(NormalCdf(static_cast<double>(quantile)));
      const double all = std::accumulate(frequencies.begin(), frequencies.end(), 0.0);
      EXPECT_NEAR(all / 5000, density, 0.01 * density);
      EXPECT_FALSE(*spread > 0 && std::is_sorted(frequencies.begin(), frequencies.end()));
      // Counted, not by the function under test.
      std::sort(frequencies.rbegin(), frequencies.rend());
      double sum = 0;
      size_t neurons = 0;
      while (sum < 0.8 * all) sum += frequencies[neurons++];
      EXPECT_NEAR(static_cast<double>(neurons) / 5000, share, 0.002);
    }
  }
}

TEST(PlantedFrequencies, QuantileInvertsTheDistribution) {
  EXPECT_NEAR(NormalQuantile(0.975), 1.959963985, 1e-8);  // tables of the normal distribution
  EXPECT_NEAR(NormalCdf(-1.0), 0.158655254, 1e-8);
}

TEST(SyntheticModel, SameBytesForAnyTeamAndOthersForAnotherSeed) {
  const TemporaryFolder folder;
  const auto write = [&](uint64_t seed, int threads) {
    SyntheticOptions options = Tiny();
    options.seed = seed;
    const auto model = SyntheticModel::Create(options);
    const auto team = ThreadTeam::Create(threads);
    const std::string path = folder.path() + "/a.gguf";
    EXPECT_TRUE(model->Write(path, **team).ok());
    return *ReadTextFile(path, 1 << 30);
  };
  const std::string first = write(7, 1);
  EXPECT_EQ(first, write(7, 3));
  EXPECT_NE(first, write(8, 1));
}

TEST(SyntheticModel, LoadsInEveryType) {
  const TemporaryFolder folder;
  const auto team = *ThreadTeam::Create(2);
  for (const ElementType type :
       {ElementType::kF32, ElementType::kF16, ElementType::kBF16, ElementType::kQ8_0, ElementType::kQ4_0}) {
    SyntheticOptions options = Tiny();
    options.type = type;
    const std::string path = folder.path() + "/a.gguf";
    ASSERT_TRUE(SyntheticModel::Create(options)->Write(path, *team).ok());
    const auto checkpoint = Checkpoint::Open(path);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->config.activation_function(), ActivationFunction(Activation::kFatRelu, 0.25f));
    EXPECT_EQ(checkpoint->tensors.Find("blk.1.ffn_down.weight")->type, type);
    // Any text can be spelt, and comes back.
    const auto ids = checkpoint->tokenizer->Encode("any Text \xF0\x9F\x8C\x8A", {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(ids->front(), 1);  // <s>
  }
}

}  // namespace
}  // namespace thermocline
