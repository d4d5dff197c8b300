// What samples keep of the tokens appended, in memory and in a file.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/activation_samples.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <limits>
#include <set>

#include "core/half.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

constexpr int64_t kDModel = 3;
constexpr int64_t kDFf = 70;  // a word and a part of one

SampleOptions SmallOptions() {
  return {.n_layers = 2, .d_model = kDModel, .d_ff = kDFf, .training_tokens = 8, .held_out_tokens = 4};
}

// Token `number` of layer `layer`: small whole numbers, which BF16 holds exactly.
struct Token {
  Token(int64_t layer, int64_t number)
      : x(*Matrix<float>::Create(1, kDModel)), gate(*Matrix<float>::Create(1, kDFf)) {
    for (int64_t c = 0; c < kDModel; ++c) x.row(0)[static_cast<size_t>(c)] = Input(layer, number, c);
    for (int64_t i = 0; i < kDFf; ++i) gate.row(0)[static_cast<size_t>(i)] = Active(number, i) ? 1.0f : -1.0f;
  }
  static float Input(int64_t layer, int64_t number, int64_t c) {
    return static_cast<float>((c == 1 ? -1 : 1) * (100 * layer + number));
  }
  static bool Active(int64_t number, int64_t i) { return (number + i) % 7 == 0; }

  Matrix<float> x, gate;
};

absl::Status AppendTokens(ActivationSamples& samples, SamplePart part, int64_t first, int64_t count) {
  for (int64_t layer = 0; layer < samples.n_layers(); ++layer) {
    for (int64_t number = first; number < first + count; ++number) {
      const Token token(layer, number);
      TC_RETURN_IF_ERROR(
          samples.Append(part, layer, token.x.view(), token.gate.view(), Activation::kRelu, 0));
    }
  }
  return absl::OkStatus();
}

// Numbers of the tokens that a layer kept; every row must be that token's.
std::vector<int64_t> KeptTokens(const ActivationSamples& samples, SamplePart part, int64_t layer) {
  const LayerSamples kept = samples.Layer(part, layer);
  std::vector<int64_t> numbers;
  for (int64_t t = 0; t < kept.tokens(); ++t) {
    const auto number = static_cast<int64_t>(BFloat16ToFloat(kept.x.row(t)[0])) - 100 * layer;
    for (int64_t c = 0; c < kDModel; ++c)
      EXPECT_EQ(BFloat16ToFloat(kept.x.row(t)[static_cast<size_t>(c)]), Token::Input(layer, number, c));
    for (int64_t i = 0; i < 2 * 64; ++i) {
      EXPECT_EQ(kept.active.row_data(t)[i / 64] >> (i % 64) & 1u, i < kDFf && Token::Active(number, i))
          << number << ", neuron " << i;
    }
    numbers.push_back(number);
  }
  return numbers;
}

TEST(ActivationSamples, KeepTokensInOrderWhileThereIsRoom) {
  ActivationSamples samples = *ActivationSamples::Create(SmallOptions());
  EXPECT_EQ(samples.tokens(SamplePart::kTraining), 0);
  ASSERT_TRUE(AppendTokens(samples, SamplePart::kTraining, 0, 5).ok());
  ASSERT_TRUE(AppendTokens(samples, SamplePart::kHeldOut, 40, 2).ok());
  for (int64_t layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(KeptTokens(samples, SamplePart::kTraining, layer), (std::vector<int64_t>{0, 1, 2, 3, 4}));
    EXPECT_EQ(KeptTokens(samples, SamplePart::kHeldOut, layer), (std::vector<int64_t>{40, 41}));
  }
  EXPECT_EQ(samples.tokens(SamplePart::kTraining), 5);
  EXPECT_EQ(samples.tokens(SamplePart::kHeldOut), 2);
}

TEST(ActivationSamples, KeepTheSameTokensInEveryLayerWhenThereAreMore) {
  ActivationSamples samples = *ActivationSamples::Create(SmallOptions());
  ASSERT_TRUE(AppendTokens(samples, SamplePart::kTraining, 0, 90).ok());
  const std::vector<int64_t> kept = KeptTokens(samples, SamplePart::kTraining, 0);
  EXPECT_EQ(kept, KeptTokens(samples, SamplePart::kTraining, 1));
  EXPECT_EQ(std::set<int64_t>(kept.begin(), kept.end()).size(), 8u);  // none twice
}

// 64 of 1024 numbers that are equally likely: their mean is 511.5, with a deviation of 36 over all draws.
TEST(ActivationSamples, DrawFromTheWholeText) {
  SampleOptions options = SmallOptions();
  options.n_layers = 1;
  options.training_tokens = 64;
  ActivationSamples samples = *ActivationSamples::Create(options);
  auto x = *Matrix<float>::Create(1, kDModel);
  const auto active = *Matrix<uint64_t>::Create(1, BitWords(kDFf));
  for (int number = 0; number < 1024; ++number) {
    x.row(0)[0] = static_cast<float>(number / 8);  // exact in BF16
    ASSERT_TRUE(samples.Append(SamplePart::kTraining, 0, x.view(), active.view()).ok());
  }
  const LayerSamples kept = samples.Layer(SamplePart::kTraining, 0);
  ASSERT_EQ(kept.tokens(), 64);
  double sum = 0;
  for (int64_t t = 0; t < 64; ++t) sum += 8.0 * static_cast<double>(BFloat16ToFloat(kept.x.row(t)[0])) + 3.5;
  EXPECT_NEAR(sum / 64, 511.5, 4 * 36);
}

TEST(ActivationSamples, DoNotDependOnHowTokensAreCut) {
  ActivationSamples one_by_one = *ActivationSamples::Create(SmallOptions());
  ASSERT_TRUE(AppendTokens(one_by_one, SamplePart::kTraining, 0, 30).ok());
  ActivationSamples at_once = *ActivationSamples::Create(SmallOptions());
  for (int64_t layer = 0; layer < 2; ++layer) {
    auto x = *Matrix<float>::Create(30, kDModel);
    auto gate = *Matrix<float>::Create(30, kDFf);
    for (int64_t t = 0; t < 30; ++t) {
      const Token token(layer, t);
      std::ranges::copy(token.x.row(0), x.row(t).begin());
      std::ranges::copy(token.gate.row(0), gate.row(t).begin());
    }
    ASSERT_TRUE(
        at_once.Append(SamplePart::kTraining, layer, x.view(), gate.view(), Activation::kRelu, 0).ok());
    EXPECT_EQ(KeptTokens(one_by_one, SamplePart::kTraining, layer),
              KeptTokens(at_once, SamplePart::kTraining, layer));
  }
}

TEST(ActivationSamples, AreTheSameInAFile) {
  const TemporaryFolder folder;
  SampleOptions options = SmallOptions();
  ActivationSamples in_memory = *ActivationSamples::Create(options);
  options.memory_limit_bytes = 16;
  options.spool_folder = folder.path();
  ActivationSamples in_file = *ActivationSamples::Create(options);
  EXPECT_FALSE(in_memory.spooled());
  EXPECT_TRUE(in_file.spooled());
  for (ActivationSamples* samples : {&in_memory, &in_file}) {
    ASSERT_TRUE(AppendTokens(*samples, SamplePart::kTraining, 0, 50).ok());
    ASSERT_TRUE(AppendTokens(*samples, SamplePart::kHeldOut, 0, 3).ok());
  }
  for (const SamplePart part : {SamplePart::kTraining, SamplePart::kHeldOut})
    for (int64_t layer = 0; layer < 2; ++layer)
      EXPECT_EQ(KeptTokens(in_memory, part, layer), KeptTokens(in_file, part, layer));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));  // nothing stays, even after a crash
}

TEST(ActivationSamples, MarkWhatTheActivationLetsThrough) {
  const float silu_of_1 = 1 / (1 + std::exp(-1.0f));
  struct Case {
    ActivationFunction activation;
    float threshold;
    float gate;
    bool active;
  };
  const Case cases[] = {{Activation::kRelu, 0, 0, false},
                        {Activation::kRelu, 0, 1e-30f, true},
                        {Activation::kRelu, 0, -1, false},
                        {Activation::kRelu, 0.5f, 0.5f, false},
                        {Activation::kRelu, 0.5f, 0.6f, true},
                        {{Activation::kFatRelu, 0.01f}, 0, 0.009f, false},
                        {{Activation::kFatRelu, 0.01f}, 0, 0.01f, true},
                        {Activation::kSilu, silu_of_1 * 1.01f, 1, false},
                        {Activation::kSilu, silu_of_1 * 0.99f, 1, true},
                        {Activation::kSilu, 0.2f, -1, true}};  // silu(-1) is -0.27
  for (const Case& c : cases) {
    ActivationSamples samples = *ActivationSamples::Create(SmallOptions());
    const auto x = *Matrix<float>::Create(1, kDModel);
    auto gate = *Matrix<float>::Create(1, kDFf);
    gate.row(0)[69] = c.gate;
    ASSERT_TRUE(
        samples.Append(SamplePart::kTraining, 1, x.view(), gate.view(), c.activation, c.threshold).ok());
    EXPECT_EQ(samples.Layer(SamplePart::kTraining, 1).active.row(0)[1] >> 5 & 1u, c.active)
        << NameOf(c.activation.kind) << " " << c.threshold << " " << c.gate;
  }
}

TEST(ActivationSamples, RefuseWhatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1.0f / 0.0f}) {
    ActivationSamples samples = *ActivationSamples::Create(SmallOptions());
    Token token(1, 3);
    token.x.row(0)[2] = bad;
    ExpectRefusal(
        samples.Append(SamplePart::kTraining, 1, token.x.view(), token.gate.view(), Activation::kRelu, 0),
        {"layer 1", "token 0", "not finite"});
  }
  ActivationSamples samples = *ActivationSamples::Create(SmallOptions());
  Token token(1, 3);
  token.gate.row(0)[69] = std::numeric_limits<float>::quiet_NaN();
  ExpectRefusal(
      samples.Append(SamplePart::kTraining, 1, token.x.view(), token.gate.view(), Activation::kRelu, 0),
      {"layer 1", "gate", "not a number"});
}

TEST(ActivationSamples, RefuseSizesAndFolders) {
  SampleOptions options = SmallOptions();
  options.held_out_tokens = 0;
  ExpectRefusal(ActivationSamples::Create(options).status(), {"held_out_tokens is 0"});
  options = SmallOptions();
  options.n_layers = options.d_model = options.training_tokens = int64_t{1} << 30;
  ExpectRefusal(ActivationSamples::Create(options).status(), {"too many bytes"});
  options = SmallOptions();
  options.memory_limit_bytes = 16;
  ExpectRefusal(ActivationSamples::Create(options).status(), {"limit in memory is 16", "no spool folder"});
  options.spool_folder = "/no/such/folder";
  ExpectRefusal(ActivationSamples::Create(options).status(), {"/no/such/folder", "No such file"});
}

// A limit on file sizes stands for a full disk.
TEST(ActivationSamples, SayWhenTheDiskIsFull) {
  const TemporaryFolder folder;
  SampleOptions options = SmallOptions();
  options.memory_limit_bytes = 16;
  options.spool_folder = folder.path();
  ActivationSamples samples = *ActivationSamples::Create(options);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 64;
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = AppendTokens(samples, SamplePart::kTraining, 0, 8);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  ExpectRefusal(status, {folder.path(), "cannot be written", "File too large"});
}

}  // namespace
}  // namespace thermocline
