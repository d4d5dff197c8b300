// Counting against numpy goldens and a slow forward pass of a twelve-layer model.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/activation_counter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "model/checkpoint.h"
#include "model/weights.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/refusal.h"
#include "tests/support/slow_llama.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using testing::PuppetTokenizer;

struct RunnerOptions {
  int threads = 2;
  std::string_view isa = {};  // empty: the best
  int64_t block_tokens = 128;
};

// A model from a folder, ready to run.
struct Runner {
  explicit Runner(const std::string& folder, const RunnerOptions& setup = {})
      : checkpoint(*Checkpoint::Open(folder, {.load_tokenizer = false})),
        team(*ThreadTeam::Create(setup.threads)),
        cpu{.team = team.get(), .kernels = setup.isa.empty() ? &BestKernels() : *KernelsFor(setup.isa)},
        weights(*ModelWeights::Load(checkpoint, cpu)),
        transformer(*Transformer::Create(
            checkpoint.config, weights, cpu,
            {.kv_type = ElementType::kF32, .block_tokens = setup.block_tokens, .pack_weights = false})) {}

  ActivationProfile Empty(double threshold = 0) const {
    return EmptyProfile(checkpoint.config, std::string(64, 'e'), threshold);
  }

  Checkpoint checkpoint;
  std::unique_ptr<ThreadTeam> team;
  CpuContext cpu;
  ModelWeights weights;
  std::unique_ptr<Transformer> transformer;
};

constexpr auto kGoOn = [](const CountingProgress&) { return true; };

void ExpectSameCounts(const ActivationProfile& a, const ActivationProfile& b) {
  EXPECT_EQ(a.profiled_tokens, b.profiled_tokens);
  EXPECT_EQ(a.held_out_tokens, b.held_out_tokens);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t l = 0; l < a.layers.size(); ++l) {
    EXPECT_EQ(a.layers[l].profiled.active, b.layers[l].profiled.active) << l;
    EXPECT_EQ(a.layers[l].held_out.active, b.layers[l].held_out.active) << l;
  }
}

void ExpectSameBits(const ActivationProfile& a, const ActivationProfile& b) {
  ExpectSameCounts(a, b);
  EXPECT_EQ(a.corpus, b.corpus);
  for (size_t l = 0; l < a.layers.size(); ++l) {
    EXPECT_EQ(a.layers[l].profiled.magnitude_sum, b.layers[l].profiled.magnitude_sum) << l;
    EXPECT_EQ(a.layers[l].held_out.magnitude_sum, b.layers[l].held_out.magnitude_sum) << l;
  }
}

// How many neurons have the same count on both sides. Others may differ by no more than the tokens whose
// value was so near to turning over that rounding decides.
size_t CountEqual(const std::vector<uint64_t>& ours, const std::vector<uint64_t>& theirs,
                  const std::vector<uint64_t>& near, const std::string& where) {
  EXPECT_EQ(ours.size(), theirs.size());
  size_t equal = 0;
  for (size_t i = 0; i < theirs.size(); ++i) {
    const uint64_t difference = std::max(ours[i], theirs[i]) - std::min(ours[i], theirs[i]);
    EXPECT_LE(difference, near[i]) << where << ", neuron " << i;
    equal += difference == 0;
  }
  return equal;
}

// Counts, and beside it how often a neuron's value was so near to zero that rounding decides.
class NearZeroCounter final : public FeedForwardObserver {
 public:
  NearZeroCounter(const ModelConfig& config, const CpuContext& context, float near)
      : counter_(config, context, 0),
        near_(near),
        near_zero_(static_cast<size_t>(config.n_layers),
                   std::vector<uint64_t>(static_cast<size_t>(config.d_ff))) {}

  void OnGate(int64_t layer, MatrixView<const float> input, MatrixView<const float> gate) override {
    counter_.OnGate(layer, input, gate);
    for (int64_t t = 0; t < gate.rows; ++t)
      for (size_t i = 0; i < gate.row(t).size(); ++i)
        near_zero_[static_cast<size_t>(layer)][i] += std::abs(gate.row(t)[i]) < near_;
  }
  const std::vector<uint64_t>& active(size_t layer) const { return counter_.layers()[layer].active; }
  const std::vector<uint64_t>& near_zero(size_t layer) const { return near_zero_[layer]; }

 private:
  ActivationCounter counter_;
  const float near_;
  std::vector<std::vector<uint64_t>> near_zero_;
};

// The goldens count the first BOS as a token and put none before the second window, so the observer is driven
// without the corpus. numpy adds in another order than the kernels, both in float32.
TEST(DemoModelCounts, EqualTheGoldensOnEveryInstructionSet) {
  constexpr float kNear = 1e-5f;  // values are of size 1
  const std::string folder = THERMOCLINE_SOURCE_DIR "/models/demo";
  const auto golden = nlohmann::json::parse(std::ifstream(folder + "/golden.json"));
  const auto window = golden["windows"].get<size_t>();
  const auto expected = golden["active_counts"].get<std::vector<std::vector<uint64_t>>>();
  const auto tokenizer = *CreateTokenizerFromFolder(folder);
  std::vector<TokenId> tokens = *tokenizer->Encode(*ReadTextFile(folder + "/valid.txt", 1 << 20), {});
  tokens.resize(golden["text_tokens"].get<size_t>());
  for (const std::string_view isa : AvailableIsas()) {
    const Runner runner(folder, {.isa = isa});
    NearZeroCounter counter(runner.checkpoint.config, runner.cpu, kNear);
    runner.transformer->SetFeedForwardObserver(&counter);
    std::vector<float> logits(static_cast<size_t>(runner.transformer->n_vocab()));
    const size_t step = 128;
    for (size_t first = 0; first < tokens.size(); first += step) {
      const auto position = static_cast<int64_t>(first % window);
      ASSERT_TRUE(
          runner.transformer
              ->Forward({.tokens = std::span(tokens).subspan(first, step), .first_position = position},
                        logits)
              .ok());
    }
    size_t equal = 0;
    for (size_t l = 0; l < expected.size(); ++l) {
      equal += CountEqual(counter.active(l), expected[l], counter.near_zero(l),
                          fmt::format("{}, layer {}", isa, l));
    }
    EXPECT_GE(equal, 6u * 1024u - 4) << isa;
    RecordProperty("equal_neurons_" + std::string(isa), static_cast<int>(equal));
  }
}

// Floats stay this close to the slow doubles through twelve layers: GatesDifferByRoundingAlone.
constexpr double kRounding = 2e-5;

// Counts of one window's tokens by the slow model, which are added to a profile.
class SlowCounter {
 public:
  SlowCounter(const SlowLlama& model, double threshold, ActivationProfile& profile)
      : model_(model),
        threshold_(threshold),
        profile_(profile),
        near_(profile.layers.size(), std::vector<uint64_t>(static_cast<size_t>(profile.d_ff))) {}

  // BOS in front, not counted.
  void Count(std::string_view window, bool held_out) {
    std::vector<TokenId> tokens = {PuppetTokenizer::kBos};
    for (const TokenId id : PuppetTokenizer::IdsOf(window)) tokens.push_back(id);
    const SlowLlama::Gates gates = model_.ForwardGates(tokens);
    for (size_t l = 0; l < gates.size(); ++l) {
      LayerActivations& layer = profile_.layers[l];
      NeuronCounts& counts = held_out ? layer.held_out : layer.profiled;
      for (size_t t = 1; t < tokens.size(); ++t) {
        for (size_t i = 0; i < gates[l][t].size(); ++i) {
          const double gate = gates[l][t][i];
          const bool is_active = IsActive(gate);
          near_[l][i] += IsActive(gate - kRounding) != is_active || IsActive(gate + kRounding) != is_active;
          if (!is_active) continue;
          ++counts.active[i];
          counts.magnitude_sum[i] += std::abs(model_.Activate(gate));
        }
      }
    }
    (held_out ? profile_.held_out_tokens : profile_.profiled_tokens) += static_cast<int64_t>(window.size());
  }

  // Values of a layer's neurons that rounding may turn over, profiled and held out together.
  const std::vector<uint64_t>& near(size_t layer) const { return near_[layer]; }

 private:
  bool IsActive(double gate) const { return std::abs(model_.Activate(gate)) > threshold_; }

  const SlowLlama& model_;
  const double threshold_;
  ActivationProfile& profile_;
  std::vector<std::vector<uint64_t>> near_;
};

constexpr char kText[] =
    "It was a bright cold day in the far north, and the ice sang under the sledge.\n"
    "\"Hold on!\" cried the driver, but nobody heard: the wind took his words.\n\n"
    "Two hours later they stood before the cabin; smoke rose from its chimney, caf\xC3\xA9 smelt through the "
    "door.\n";

class TwelveLayers : public ::testing::Test {
 protected:
  // Writes the model and returns its folder.
  std::string Write(const SlowLlama& model) const {
    model.WriteTo(folder_.path());
    return folder_.path();
  }
  const TemporaryFolder folder_;
  const PuppetTokenizer tokenizer_;
};

struct Case {
  Activation activation;
  double threshold;
  uint32_t seed;
};

// Keeps the last pass.
class GateRecorder final : public FeedForwardObserver {
 public:
  void OnGate(int64_t layer, MatrixView<const float> /*input*/, MatrixView<const float> gate) override {
    EXPECT_EQ(layer, static_cast<int64_t>(gates.size()));
    auto& rows = gates.emplace_back();
    for (int64_t t = 0; t < gate.rows; ++t) rows.emplace_back(gate.row(t).begin(), gate.row(t).end());
  }
  SlowLlama::Gates gates;
};

TEST_F(TwelveLayers, GatesDifferByRoundingAlone) {
  for (const auto& [activation, seed] :
       {std::pair(Activation::kRelu, 1u), std::pair(Activation::kSilu, 3u)}) {
    const SlowLlama slow(TwelveLayerConfig(activation), seed);
    const Runner runner(Write(slow));
    std::vector<TokenId> tokens = PuppetTokenizer::IdsOf(std::string_view(kText).substr(0, 47));
    tokens.insert(tokens.begin(), PuppetTokenizer::kBos);
    GateRecorder recorder;
    runner.transformer->SetFeedForwardObserver(&recorder);
    std::vector<float> logits(static_cast<size_t>(runner.transformer->n_vocab()));
    ASSERT_TRUE(runner.transformer->Forward({.tokens = tokens}, logits).ok());
    const SlowLlama::Gates expected = slow.ForwardGates(tokens);
    ASSERT_EQ(recorder.gates.size(), expected.size());
    double largest = 0;
    for (size_t l = 0; l < expected.size(); ++l)
      for (size_t t = 0; t < expected[l].size(); ++t)
        for (size_t i = 0; i < expected[l][t].size(); ++i)
          largest = std::max(largest, std::abs(recorder.gates[l][t][i] - expected[l][t][i]));
    EXPECT_LT(largest, kRounding);
    EXPECT_GT(largest, 0);
    // Nobody looks any more.
    runner.transformer->SetFeedForwardObserver(nullptr);
    ASSERT_TRUE(runner.transformer->Forward({.tokens = tokens}, logits).ok());
    EXPECT_EQ(recorder.gates.size(), expected.size());
  }
}

TEST_F(TwelveLayers, CountsEqualTheSlowModel) {
  const std::string corpus = folder_.Write("corpus.txt", kText);
  const std::string_view text = kText;
  for (const Case& c : {Case{Activation::kRelu, 0, 1}, Case{Activation::kRelu, 0.1, 2},
                        Case{Activation::kSilu, 0, 3}, Case{Activation::kSilu, 0.2, 4}}) {
    SCOPED_TRACE(fmt::format("{} {}", NameOf(c.activation), c.threshold));
    const SlowLlama slow(TwelveLayerConfig(c.activation), c.seed);
    const Runner runner(Write(slow), {.block_tokens = 7});
    ActivationProfile profile = runner.Empty(c.threshold), expected = profile;
    // Windows of 16 with BOS: 15 bytes of text. Windows 1, 4, 7 ... are held out.
    const CountingOptions options{.window_tokens = 16, .held_out_every = 3};
    ASSERT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, options, profile, kGoOn).ok());
    SlowCounter counter(slow, c.threshold, expected);
    for (size_t w = 0; 15 * w < text.size(); ++w) counter.Count(text.substr(15 * w, 15), w % 3 == 1);
    EXPECT_EQ(profile.profiled_tokens, expected.profiled_tokens);
    EXPECT_EQ(profile.held_out_tokens, expected.held_out_tokens);
    size_t equal = 0;
    for (size_t l = 0; l < profile.layers.size(); ++l) {
      const std::string where = fmt::format("layer {}", l);
      equal += CountEqual(profile.layers[l].profiled.active, expected.layers[l].profiled.active,
                          counter.near(l), where);
      equal += CountEqual(profile.layers[l].held_out.active, expected.layers[l].held_out.active,
                          counter.near(l), where);
    }
    EXPECT_GE(equal, 2u * 12u * 40u - 2);
    EXPECT_EQ(profile.profiled_tokens + profile.held_out_tokens, static_cast<int64_t>(text.size()));
    for (size_t l = 0; l < profile.layers.size(); ++l) {
      for (size_t i = 0; i < 40; ++i) {
        const double sum = expected.layers[l].profiled.magnitude_sum[i];
        EXPECT_NEAR(profile.layers[l].profiled.magnitude_sum[i], sum, 1e-4 * sum + 1e-6);
        EXPECT_NEAR(profile.layers[l].held_out.magnitude_sum[i], expected.layers[l].held_out.magnitude_sum[i],
                    1e-3);
      }
    }
    // The layers are unlike, so that an exchange would show.
    for (size_t l = 1; l < profile.layers.size(); ++l)
      EXPECT_NE(profile.layers[l].profiled.magnitude_sum, profile.layers[l - 1].profiled.magnitude_sum);
  }
}

// Tokens of one neuron for which samples say that it was active.
uint64_t ActiveSamples(const LayerSamples& samples, size_t neuron) {
  uint64_t count = 0;
  for (int64_t t = 0; t < samples.tokens(); ++t)
    count += samples.active.row(t)[neuron / 64] >> neuron % 64 & 1;
  return count;
}

// With room for every token the samples are the counts, split at the same windows.
TEST_F(TwelveLayers, SamplesHoldWhatIsCounted) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 2)), {.block_tokens = 7});
  const std::string corpus = folder_.Write("a.txt", kText);
  const ModelConfig& config = runner.checkpoint.config;
  const auto make = [&] {
    return *ActivationSamples::Create({.n_layers = config.n_layers,
                                       .d_model = config.d_model,
                                       .d_ff = config.d_ff,
                                       .training_tokens = 4096,
                                       .held_out_tokens = 4096});
  };
  ActivationSamples samples = make();
  ActivationProfile profile = runner.Empty();
  const CountingOptions options{.window_tokens = 16, .held_out_every = 3, .samples = &samples};
  ASSERT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, options, profile, kGoOn).ok());
  EXPECT_EQ(samples.tokens(SamplePart::kTraining), profile.profiled_tokens);
  EXPECT_EQ(samples.tokens(SamplePart::kHeldOut), profile.held_out_tokens);
  uint64_t active = 0;
  for (int64_t l = 0; l < config.n_layers; ++l) {
    const LayerActivations& counts = profile.layers[static_cast<size_t>(l)];
    for (size_t i = 0; i < counts.profiled.active.size(); ++i) {
      EXPECT_EQ(ActiveSamples(samples.Layer(SamplePart::kTraining, l), i), counts.profiled.active[i]);
      EXPECT_EQ(ActiveSamples(samples.Layer(SamplePart::kHeldOut, l), i), counts.held_out.active[i]);
      active += counts.profiled.active[i];
    }
  }
  EXPECT_GT(active, 0u);

  // The first of two ranks never counts a held-out window when every second one is, but samples both parts.
  ActivationSamples share = make();
  ActivationProfile first = runner.Empty();
  const CountingOptions of_two{.window_tokens = 16, .held_out_every = 2, .ranks = 2, .samples = &share};
  ASSERT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, of_two, first, kGoOn).ok());
  EXPECT_EQ(first.held_out_tokens, 0);
  EXPECT_GT(share.tokens(SamplePart::kHeldOut), 0);
  EXPECT_EQ(share.tokens(SamplePart::kTraining) + share.tokens(SamplePart::kHeldOut), first.profiled_tokens);
}

TEST_F(TwelveLayers, LayersKeepTheirOrderInTheFile) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 1)));
  ActivationProfile profile = runner.Empty();
  ASSERT_TRUE(
      CountActivations(*runner.transformer, tokenizer_, folder_.Write("a.txt", kText), {}, profile, kGoOn)
          .ok());
  ASSERT_TRUE(WriteProfile(profile, folder_.path() + "/profile.pb").ok());
  ExpectSameBits(*ReadProfile(folder_.path() + "/profile.pb"), profile);
}

TEST_F(TwelveLayers, ThreadsAndStepsDoNotChangeABit) {
  const std::string model = Write(SlowLlama(TwelveLayerConfig(Activation::kSilu), 5));
  const std::string corpus = folder_.Write("a.txt", kText);
  const auto count = [&](const RunnerOptions& setup) {
    const Runner runner(model, setup);
    ActivationProfile profile = runner.Empty(0.05);
    EXPECT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, {}, profile, kGoOn).ok());
    return profile;
  };
  const ActivationProfile one = count({.threads = 1});
  EXPECT_GT(one.profiled_tokens, 0);
  for (const int threads : {2, 3, 4}) ExpectSameBits(count({.threads = threads}), one);
  for (const int64_t block : {1, 5, 48}) ExpectSameBits(count({.block_tokens = block}), one);
}

// Stops after every number of windows, saves, and goes on from the file.
TEST_F(TwelveLayers, GoingOnEqualsOneRunToTheLastBit) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kSilu), 6)));
  std::string lines;
  for (const std::string_view text : {"A first document, not long.", "", "Another.", kText}) {
    lines += nlohmann::json{{"text", text}}.dump() + "\n";
  }
  const CountingOptions options{.window_tokens = 20, .held_out_every = 4};
  for (const std::string& corpus : {folder_.Write("a.txt", kText), folder_.Write("a.jsonl", lines)}) {
    const auto count = [&](ActivationProfile& profile, int64_t windows) {
      EXPECT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, options, profile,
                                   [&](const CountingProgress&) { return --windows != 0; })
                      .ok());
    };
    ActivationProfile whole = runner.Empty(0.1);
    count(whole, 0);
    ASSERT_GT(whole.corpus.windows, 10);
    ASSERT_GT(whole.held_out_tokens, 0);
    for (int64_t stop = 1; stop < whole.corpus.windows; ++stop) {
      ActivationProfile part = runner.Empty(0.1);
      count(part, stop);
      ASSERT_EQ(part.corpus.windows, stop);
      ASSERT_TRUE(WriteProfile(part, folder_.path() + "/part.pb").ok());
      ActivationProfile rest = *ReadProfile(folder_.path() + "/part.pb");
      count(rest, 0);
      SCOPED_TRACE(stop);
      ExpectSameBits(rest, whole);
    }
    // At the end there is nothing left, which is no error.
    ActivationProfile again = whole;
    count(again, 0);
    ExpectSameBits(again, whole);
  }
}

TEST_F(TwelveLayers, TwoHalvesMergeToTheWhole) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 7)));
  const std::string first = R"({"text": "The first half of it."})"
                            "\n";
  const std::string second = R"({"text": "And the other, which is longer."})"
                             "\n";
  const auto count = [&](const std::string& lines) {
    ActivationProfile profile = runner.Empty();
    EXPECT_TRUE(CountActivations(*runner.transformer, tokenizer_, folder_.Write("a.jsonl", lines),
                                 {.held_out_every = 0}, profile, kGoOn)
                    .ok());
    return profile;
  };
  ExpectSameCounts(*MergeProfiles(count(first), count(second)), count(first + second));
  // Counting goes on into a merged profile from the start of a corpus.
  ActivationProfile merged = *MergeProfiles(count(first), runner.Empty());
  ASSERT_TRUE(CountActivations(*runner.transformer, tokenizer_, folder_.Write("b.jsonl", second),
                               {.held_out_every = 0}, merged, kGoOn)
                  .ok());
  ExpectSameCounts(merged, count(first + second));
}

TEST_F(TwelveLayers, RanksShareTheWindows) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 8)));
  const std::string corpus = folder_.Write("a.txt", kText);
  for (const int64_t max_tokens : {0, 100}) {
    const auto count = [&](int64_t rank, int64_t ranks) {
      ActivationProfile profile = runner.Empty();
      const CountingOptions options{
          .window_tokens = 12, .held_out_every = 5, .max_tokens = max_tokens, .rank = rank, .ranks = ranks};
      EXPECT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, options, profile, kGoOn).ok());
      return profile;
    };
    const ActivationProfile whole = count(0, 1);
    for (const int64_t ranks : {2, 3}) {
      ActivationProfile sum = runner.Empty();
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const ActivationProfile part = count(rank, ranks);
        EXPECT_EQ(part.corpus, whole.corpus);
        EXPECT_LT(part.profiled_tokens, whole.profiled_tokens);
        sum = *MergeProfiles(sum, part);
      }
      ExpectSameCounts(sum, whole);
    }
  }
}

TEST_F(TwelveLayers, HeldOutWindowsAreTheSecondAndEveryNthAfterIt) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 9)));
  const auto held_out = [&](size_t bytes, int64_t every) {
    ActivationProfile profile = runner.Empty();
    EXPECT_TRUE(CountActivations(*runner.transformer, tokenizer_,
                                 folder_.Write("a.txt", std::string(bytes, 'a')),
                                 {.window_tokens = 11, .held_out_every = every}, profile, kGoOn)
                    .ok());
    EXPECT_EQ(profile.profiled_tokens + profile.held_out_tokens, static_cast<int64_t>(bytes));
    return profile.held_out_tokens;
  };
  EXPECT_EQ(held_out(1, 10), 0);
  EXPECT_EQ(held_out(10, 10), 0);
  EXPECT_EQ(held_out(13, 10), 3);
  EXPECT_EQ(held_out(20, 2), 10);
  EXPECT_EQ(held_out(120, 10), 20);
  EXPECT_EQ(held_out(120, 0), 0);
}

TEST_F(TwelveLayers, StopsAtTheWindowThatReachesTheLimitAndReportsProgress) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 10)));
  const std::string corpus = folder_.Write("a.txt", kText);
  ActivationProfile profile = runner.Empty();
  std::vector<int64_t> tokens, bytes;
  const auto watch = [&](const CountingProgress& progress) {
    tokens.push_back(progress.tokens);
    bytes.push_back(progress.consumed_bytes);
    EXPECT_EQ(progress.corpus_bytes, static_cast<int64_t>(sizeof kText - 1));
    return true;
  };
  const CountingOptions options{.window_tokens = 11, .max_tokens = 25};
  ASSERT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, options, profile, watch).ok());
  EXPECT_EQ(tokens, (std::vector<int64_t>{10, 20, 30}));
  EXPECT_EQ(bytes, tokens);  // the puppet's tokens are bytes
  EXPECT_EQ(profile.corpus.windows, 3);
  // The limit is of each run.
  ASSERT_TRUE(CountActivations(*runner.transformer, tokenizer_, corpus, options, profile, watch).ok());
  EXPECT_EQ(profile.profiled_tokens + profile.held_out_tokens, 60);
}

TEST_F(TwelveLayers, WhatCannotBeCountedIsRefusedAndTheProfileStays) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 11)));
  const std::string text = folder_.Write("a.txt", kText);
  struct Refused {
    std::vector<std::string> words;
    std::string corpus;
    CountingOptions options = {};
    std::function<void(ActivationProfile&)> change = [](ActivationProfile&) {};
  };
  const std::string empty = folder_.Write("empty.txt", ""),
                    blank = folder_.Write("blank.jsonl", "\n \n{\"text\":\"\"}\n");
  const std::string utf16 = folder_.Write("utf16.txt", std::string("\xFF\xFEH\0i\0", 6));
  const std::string bad_line = folder_.Write("bad.jsonl", "\n{\"text\": 1}\n");
  const std::vector<Refused> table = {
      {{empty, "empty"}, empty},
      {{blank, "no token"}, blank},
      {{utf16, "offset 0", "UTF-8"}, utf16},
      {{bad_line + ": line 2", "'text'"}, bad_line},
      {{"window_tokens is 1, allowed are 2 to 48"}, text, {.window_tokens = 1}},
      {{"window_tokens is 49, allowed are 2 to 48"}, text, {.window_tokens = 49}},
      {{"window_tokens is -1"}, text, {.window_tokens = -1}},
      {{"held_out_every is 1"}, text, {.held_out_every = 1}},
      {{"held_out_every is -2"}, text, {.held_out_every = -2}},
      {{"max_tokens is -1"}, text, {.max_tokens = -1}},
      {{"rank is 2 of 2"}, text, {.rank = 2, .ranks = 2}},
      {{"rank is -1 of 2"}, text, {.rank = -1, .ranks = 2}},
      {{"rank is 0 of 0"}, text, {.rank = 0, .ranks = 0}},
      {{"threshold is -1"}, text, {}, [](auto& p) { p.threshold = -1; }},
      {{"threshold is nan"}, text, {}, [](auto& p) { p.threshold = NAN; }},
      {{"'silu'", "'relu'"}, text, {}, [](auto& p) { p.activation = "silu"; }},
      {{"11 layers", "12"}, text, {}, [](auto& p) { p.layers.pop_back(); }},
      {{"d_ff 41", "40"}, text, {}, [](auto& p) { p.Resize(12, 41); }},
      {{"d_model 31", "32"}, text, {}, [](auto& p) { p.d_model = 31; }},
      {{"windows of 20 tokens", "48"},
       text,
       {},
       [](auto& p) {
         p.corpus = {
             .file = "a.txt", .size_bytes = sizeof kText - 1, .window_tokens = 20, .held_out_every = 10};
       }},
      {{"every 3. window", "every 10."},
       text,
       {},
       [](auto& p) {
         p.corpus = {
             .file = "a.txt", .size_bytes = sizeof kText - 1, .window_tokens = 48, .held_out_every = 3};
       }},
      {{"other.txt", "a.txt"},
       text,
       {},
       [](auto& p) {
         p.corpus = {
             .file = "other.txt", .size_bytes = sizeof kText - 1, .window_tokens = 48, .held_out_every = 10};
       }},
      {{"5 bytes", std::to_string(sizeof kText - 1)},
       text,
       {},
       [](auto& p) {
         p.corpus = {.file = "a.txt", .size_bytes = 5, .window_tokens = 48, .held_out_every = 10};
       }},
  };
  for (const Refused& refused : table) {
    SCOPED_TRACE(refused.words[0]);
    ActivationProfile profile = runner.Empty();
    refused.change(profile);
    const ActivationProfile before = profile;
    ExpectRefusal(
        CountActivations(*runner.transformer, tokenizer_, refused.corpus, refused.options, profile, kGoOn),
        refused.words);
    ExpectSameCounts(profile, before);
  }
}

TEST_F(TwelveLayers, WindowsBeforeABadLineStayCounted) {
  const Runner runner(Write(SlowLlama(TwelveLayerConfig(Activation::kRelu), 12)));
  ActivationProfile profile = runner.Empty();
  const std::string corpus = folder_.Write("a.jsonl", "{\"text\": \"Hello\"}\n{\"text\": \"you\"}\n{}\n");
  ExpectRefusal(CountActivations(*runner.transformer, tokenizer_, corpus, {}, profile, kGoOn), {"line 3"});
  EXPECT_EQ(profile.profiled_tokens, 5);
  EXPECT_EQ(profile.held_out_tokens, 3);
  EXPECT_EQ(profile.corpus.windows, 2);
}

TEST_F(TwelveLayers, AModelThatIsNotFiniteIsRefused) {
  SlowLlama model(TwelveLayerConfig(Activation::kRelu), 13);
  model.tensor("model.layers.10.mlp.down_proj.weight")[3] = NAN;
  const Runner runner(Write(model));
  ActivationProfile profile = runner.Empty();
  const std::string corpus = folder_.Write("a.txt", kText);
  ExpectRefusal(CountActivations(*runner.transformer, tokenizer_, corpus, {}, profile, kGoOn),
                {corpus, "window 0", "not finite"});
  ExpectSameCounts(profile, runner.Empty());
}

TEST(ActivationCounter, ThresholdsBetweenFloatsAreKept) {
  const auto team = *ThreadTeam::Create(1);
  ModelConfig config = TwelveLayerConfig(Activation::kRelu);
  config.d_ff = 2;
  const float above = 0.1f;  // 0.1 itself lies below it
  const std::vector<float> gate = {above, std::nextafter(above, 0.0f)};
  ActivationCounter counter(config, {.team = team.get(), .kernels = &BestKernels()}, 0.1);
  counter.OnGate(11, {}, {gate.data(), 1, 2, 2});
  EXPECT_EQ(counter.layers()[11].active, (std::vector<uint64_t>{1, 0}));
  EXPECT_EQ(counter.layers()[10].active, (std::vector<uint64_t>{0, 0}));
  counter.Clear();
  counter.SkipTokens(1);
  counter.OnGate(11, {}, {gate.data(), 2, 1, 1});
  EXPECT_EQ(counter.layers()[11].active[0], 0u);
}

}  // namespace
}  // namespace thermocline
