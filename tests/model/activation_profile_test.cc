// profile.pb: there and back, refusals at every truncation and of every field, whom it belongs to, sums.
// SPDX-License-Identifier: Apache-2.0
#include "model/activation_profile.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/mapped_file.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"
#include "thermocline/v1/profile.pb.h"

namespace thermocline {
namespace {

constexpr int64_t kLayers = 12, kDFf = 7;

// Every number differs from its neighbours, so that mistaken places show.
ActivationProfile Example() {
  ActivationProfile profile;
  profile.model_sha256 = std::string(32, 'a') + std::string(32, '7');
  profile.architecture = "llama";
  profile.activation = "relu";
  profile.threshold = 0.125;
  profile.d_model = 48;
  profile.profiled_tokens = 5000;
  profile.held_out_tokens = 600;
  profile.Resize(kLayers, kDFf);
  for (size_t l = 0; l < profile.layers.size(); ++l) {
    for (size_t i = 0; i < static_cast<size_t>(kDFf); ++i) {
      profile.layers[l].profiled.active[i] = 100 * l + i;
      profile.layers[l].held_out.active[i] = 10 * l + i;
      profile.layers[l].profiled.magnitude_sum[i] = 100 * l + i == 0 ? 0 : 0.1 * static_cast<double>(l) + 1;
      profile.layers[l].held_out.magnitude_sum[i] = 10 * l + i == 0 ? 0 : 0.3 * static_cast<double>(i) + 2;
    }
  }
  profile.corpus = {.file = "a\xFF name.txt",
                    .size_bytes = 1000,
                    .consumed_bytes = 900,
                    .consumed_tokens = 8,
                    .windows = 77,
                    .window_tokens = 512,
                    .held_out_every = 10};
  return profile;
}

void ExpectEqual(const ActivationProfile& a, const ActivationProfile& b) {
  EXPECT_EQ(a.model_sha256, b.model_sha256);
  EXPECT_EQ(a.architecture, b.architecture);
  EXPECT_EQ(a.activation, b.activation);
  EXPECT_EQ(a.threshold, b.threshold);
  EXPECT_EQ(a.d_model, b.d_model);
  EXPECT_EQ(a.d_ff, b.d_ff);
  EXPECT_EQ(a.profiled_tokens, b.profiled_tokens);
  EXPECT_EQ(a.held_out_tokens, b.held_out_tokens);
  EXPECT_EQ(a.corpus, b.corpus);
  ASSERT_EQ(a.layers.size(), b.layers.size());
  for (size_t l = 0; l < a.layers.size(); ++l) {
    EXPECT_EQ(a.layers[l].profiled.active, b.layers[l].profiled.active) << l;
    EXPECT_EQ(a.layers[l].held_out.active, b.layers[l].held_out.active) << l;
    EXPECT_EQ(a.layers[l].profiled.magnitude_sum, b.layers[l].profiled.magnitude_sum) << l;
    EXPECT_EQ(a.layers[l].held_out.magnitude_sum, b.layers[l].held_out.magnitude_sum) << l;
  }
}

TEST(ActivationProfile, FileGivesBackWhatWasWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/profile.pb";
  ASSERT_TRUE(WriteProfile(Example(), path).ok());
  const auto read = ReadProfile(path);
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectEqual(*read, Example());
  // The same bytes again.
  ASSERT_TRUE(WriteProfile(*read, path + "2").ok());
  EXPECT_EQ(*ReadTextFile(path, 1 << 20), *ReadTextFile(path + "2", 1 << 20));
}

TEST(ActivationProfile, EmptyProfileHasTheModelsShape) {
  ModelConfig config;
  config.architecture = "llama";
  config.activation = Activation::kRelu;
  config.n_layers = 3;
  config.d_model = 8;
  config.d_ff = 5;
  const ActivationProfile profile = EmptyProfile(config, std::string(64, '0'), 0.5);
  EXPECT_EQ(profile.activation, "relu");
  EXPECT_EQ(profile.layers.size(), 3u);
  EXPECT_EQ(profile.layers[2].held_out.active, std::vector<uint64_t>(5));
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteProfile(profile, folder.path() + "/p").ok());
  const auto read = ReadProfile(folder.path() + "/p");
  ASSERT_TRUE(read.ok()) << read.status();
  ExpectEqual(*read, profile);
}

TEST(ActivationProfile, EveryTruncationIsRefused) {
  const TemporaryFolder folder;
  ASSERT_TRUE(WriteProfile(Example(), folder.path() + "/whole").ok());
  const std::string whole = *ReadTextFile(folder.path() + "/whole", 1 << 20);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string path = folder.Write("cut", whole.substr(0, size));
    SCOPED_TRACE(size);
    ExpectRefusal(ReadProfile(path).status(), {path});
  }
}

TEST(ActivationProfile, MissingFileAndOtherFilesAreRefused) {
  const TemporaryFolder folder;
  const std::string missing = folder.path() + "/none";
  EXPECT_EQ(ReadProfile(missing).status(), absl::NotFoundError(missing + ": no such file"));
  const std::string text = folder.Write("text", "This is not a profile.\n");
  ExpectRefusal(ReadProfile(text).status(), {text});
}

struct BadField {
  std::string word;  // of the refusal
  std::function<void(v1::ActivationProfile&)> spoil;
};

TEST(ActivationProfile, EveryFieldIsChecked) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/profile.pb";
  ASSERT_TRUE(WriteProfile(Example(), path).ok());
  v1::ActivationProfile good;
  ASSERT_TRUE(good.ParseFromString(*ReadTextFile(path, 1 << 20)));
  const auto counts = [](v1::ActivationProfile& p) { return p.mutable_layers(11)->mutable_held_out(); };
  const std::vector<BadField> table = {
      {"model_sha256", [](auto& p) { p.set_model_sha256("A" + std::string(63, '0')); }},
      {"model_sha256", [](auto& p) { p.set_model_sha256(std::string(63, '0')); }},
      {"architecture", [](auto& p) { p.set_architecture("lla\nma"); }},
      {"architecture", [](auto& p) { p.set_architecture(""); }},
      {"activation", [](auto& p) { p.set_activation("gelu\n"); }},
      {"threshold", [](auto& p) { p.set_threshold(-0.1); }},
      {"threshold", [](auto& p) { p.set_threshold(NAN); }},
      {"d_model", [](auto& p) { p.set_d_model(0); }},
      {"d_ff", [](auto& p) { p.set_d_ff(-1); }},
      {"d_ff is 8", [](auto& p) { p.set_d_ff(8); }},
      {"d_ff is 9223372036854775807", [](auto& p) { p.set_d_ff(std::numeric_limits<int64_t>::max()); }},
      {"profiled_tokens", [](auto& p) { p.set_profiled_tokens(-5); }},
      {"held_out_tokens", [](auto& p) { p.set_held_out_tokens(-5); }},
      {"layers is empty", [](auto& p) { p.clear_layers(); }},
      {"found number 1 where 0", [](auto& p) { p.mutable_layers()->DeleteSubrange(0, 1); }},
      {"found number 4 where 5", [](auto& p) { p.mutable_layers(5)->set_layer(4); }},
      {"found number 10 where 2", [](auto& p) { p.mutable_layers()->SwapElements(2, 10); }},
      {"layer 3 profiled", [](auto& p) { p.mutable_layers(3)->clear_profiled(); }},
      {"layer 11 held_out", [&](auto& p) { counts(p)->mutable_active()->RemoveLast(); }},
      {"layer 11 held_out", [&](auto& p) { counts(p)->add_magnitude_sum(1); }},
      {"neuron 6 was active 601 times, the limit is the 600",
       [&](auto& p) { counts(p)->set_active(6, 601); }},
      {"neuron 2 has a magnitude of -1", [&](auto& p) { counts(p)->set_magnitude_sum(2, -1); }},
      {"neuron 2 has a magnitude of inf", [&](auto& p) { counts(p)->set_magnitude_sum(2, INFINITY); }},
      {"neuron 2 has a magnitude of nan", [&](auto& p) { counts(p)->set_magnitude_sum(2, NAN); }},
      {"over 0 tokens", [&](auto& p) { counts(p)->set_active(3, 0); }},
      {"corpus is missing", [](auto& p) { p.clear_corpus(); }},
      {"corpus.consumed_bytes is 1001", [](auto& p) { p.mutable_corpus()->set_consumed_bytes(1001); }},
      {"corpus.consumed_bytes", [](auto& p) { p.mutable_corpus()->set_consumed_bytes(-1); }},
      {"corpus.consumed_tokens", [](auto& p) { p.mutable_corpus()->set_consumed_tokens(-1); }},
      {"corpus.size_bytes", [](auto& p) { p.mutable_corpus()->set_size_bytes(-1); }},
      {"corpus.windows", [](auto& p) { p.mutable_corpus()->set_windows(-1); }},
      {"corpus.window_tokens", [](auto& p) { p.mutable_corpus()->set_window_tokens(-1); }},
      {"corpus.held_out_every", [](auto& p) { p.mutable_corpus()->set_held_out_every(-1); }},
  };
  for (const BadField& bad : table) {
    SCOPED_TRACE(bad.word);
    v1::ActivationProfile proto = good;
    bad.spoil(proto);
    const absl::Status status = ReadProfile(folder.Write("bad", proto.SerializeAsString())).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    ExpectRefusal(status, {folder.path() + "/bad", bad.word});
  }
}

TEST(ActivationProfile, BelongsToItsModelAlone) {
  const ActivationProfile profile = Example();
  const ModelIdentity right{.sha256 = profile.model_sha256, .n_layers = kLayers, .d_model = 48, .d_ff = kDFf};
  EXPECT_TRUE(CheckBelongs(profile, right, "p").ok());
  ModelIdentity other = right;
  other.sha256 = std::string(64, 'b');
  ExpectRefusal(CheckBelongs(profile, other, "the/path"), {"the/path", right.sha256, other.sha256});
  for (int64_t ModelIdentity::*field :
       {&ModelIdentity::n_layers, &ModelIdentity::d_model, &ModelIdentity::d_ff}) {
    other = right;
    other.*field = 999;
    const absl::Status status = CheckBelongs(profile, other, "the/path");
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    ExpectRefusal(status, {"the/path", std::to_string(right.*field), "999"});
  }
}

TEST(MergeProfiles, AddsEveryNumber) {
  const ActivationProfile a = Example();
  ActivationProfile b = Example();
  b.profiled_tokens = 3;
  b.held_out_tokens = 1;
  for (LayerActivations& layer : b.layers) {
    layer.profiled.active.assign(kDFf, 3);
    layer.held_out.active.assign(kDFf, 1);
    layer.profiled.magnitude_sum.assign(kDFf, 0.5);
    layer.held_out.magnitude_sum.assign(kDFf, 0.25);
  }
  const auto merged = MergeProfiles(a, b);
  ASSERT_TRUE(merged.ok()) << merged.status();
  EXPECT_EQ(merged->profiled_tokens, 5003);
  EXPECT_EQ(merged->held_out_tokens, 601);
  EXPECT_EQ(merged->model_sha256, a.model_sha256);
  EXPECT_EQ(merged->corpus, CorpusPosition{});
  for (size_t l = 0; l < a.layers.size(); ++l) {
    for (size_t i = 0; i < static_cast<size_t>(kDFf); ++i) {
      const LayerActivations& sum = merged->layers[l];
      EXPECT_EQ(sum.profiled.active[i], a.layers[l].profiled.active[i] + 3);
      EXPECT_EQ(sum.held_out.active[i], a.layers[l].held_out.active[i] + 1);
      EXPECT_EQ(sum.profiled.magnitude_sum[i], a.layers[l].profiled.magnitude_sum[i] + 0.5);
      EXPECT_EQ(sum.held_out.magnitude_sum[i], a.layers[l].held_out.magnitude_sum[i] + 0.25);
    }
  }
}

TEST(MergeProfiles, DifferencesAreNamed) {
  const std::vector<std::pair<std::vector<std::string>, std::function<void(ActivationProfile&)>>> table = {
      {{"model_sha256", std::string(64, 'c')}, [](auto& p) { p.model_sha256 = std::string(64, 'c'); }},
      {{"architecture", "llama", "opt"}, [](auto& p) { p.architecture = "opt"; }},
      {{"activation", "relu", "silu"}, [](auto& p) { p.activation = "silu"; }},
      {{"threshold", "0.125", "0.25"}, [](auto& p) { p.threshold = 0.25; }},
      {{"n_layers", "12", "11"}, [](auto& p) { p.layers.pop_back(); }},
      {{"d_model", "48", "49"}, [](auto& p) { p.d_model = 49; }},
      {{"d_ff", "7", "8"}, [](auto& p) { p.Resize(kLayers, 8); }},
  };
  for (const auto& [words, change] : table) {
    ActivationProfile other = Example();
    change(other);
    const absl::Status status = MergeProfiles(Example(), other).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    ExpectRefusal(status, words);
  }
}

TEST(MergeProfiles, SumsThatDoNotFitAreRefused) {
  ActivationProfile tokens = Example(), counts = Example(), magnitudes = Example();
  tokens.held_out_tokens = std::numeric_limits<int64_t>::max();
  counts.layers[11].profiled.active[6] = std::numeric_limits<uint64_t>::max();
  magnitudes.layers[11].held_out.magnitude_sum[6] = std::numeric_limits<double>::max();
  for (const ActivationProfile& profile : {tokens, counts, magnitudes}) {
    EXPECT_EQ(MergeProfiles(profile, profile).status().code(), absl::StatusCode::kOutOfRange);
  }
}

}  // namespace
}  // namespace thermocline
