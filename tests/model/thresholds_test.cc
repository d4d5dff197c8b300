// thresholds.json: round trips, and every way in which a file is refused.
// SPDX-License-Identifier: Apache-2.0
#include "model/thresholds.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using nlohmann::json;

const ModelIdentity kModel{.sha256 = std::string(64, 'a'), .n_layers = 2, .d_model = 32, .d_ff = 96};

ThresholdSet Some() {
  ThresholdSet set{.model = kModel, .method = ThresholdMethod::kTeal, .target = 0.4, .tokens = 8192};
  set.layers.resize(2);
  set.layers[0].at(ThresholdSite::kAttention) = {.magnitude = 0.1f, .share = 0.3};
  set.layers[0].at(ThresholdSite::kDown) = {.magnitude = 1.17549435e-38f, .share = 0.61803398874989};
  set.layers[0].skipped = 0.25;
  set.layers[1].at(ThresholdSite::kGate) = {.magnitude = 3.4028234e38f, .share = 1};
  set.layers[1].skipped = 0.75;
  set.layers[1].error = 1e-3;
  return set;
}

class Thresholds : public ::testing::Test {
 protected:
  const TemporaryFolder folder_;
  const std::string path_ = folder_.Path("thresholds.json");

  // Reads what becomes of a good file.
  absl::Status ReadChanged(const std::function<void(json&)>& change) {
    EXPECT_TRUE(WriteThresholds(Some(), path_).ok());
    json document = json::parse(*ReadTextFile(path_, 1 << 20));
    change(document);
    folder_.Write("thresholds.json", document.dump());
    return ReadThresholds(path_, kModel).status();
  }
};

TEST_F(Thresholds, ComeBackToTheLastBit) {
  ASSERT_TRUE(WriteThresholds(Some(), path_).ok());
  const auto read = ReadThresholds(path_, kModel);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->layers, Some().layers);
  EXPECT_EQ(read->method, ThresholdMethod::kTeal);
  EXPECT_EQ(read->target, 0.4);
  EXPECT_EQ(read->tokens, 8192);
  EXPECT_EQ(read->model.sha256, kModel.sha256);
  EXPECT_EQ(read->skipped(), 0.5);
}

TEST_F(Thresholds, OfAnotherModelAreRefusedNamingBoth) {
  ASSERT_TRUE(WriteThresholds(Some(), path_).ok());
  ModelIdentity other = kModel;
  other.sha256 = std::string(64, 'b');
  const absl::Status hash = ReadThresholds(path_, other).status();
  EXPECT_EQ(hash.code(), absl::StatusCode::kFailedPrecondition);
  ExpectRefusal(hash, {path_, kModel.sha256, other.sha256});
  other = kModel;
  other.d_ff = 97;
  ExpectRefusal(ReadThresholds(path_, other).status(), {path_, "96", "97"});
}

TEST_F(Thresholds, WhatIsNoThresholdIsRefusedByName) {
  const auto refuse = [&](const std::function<void(json&)>& change, const std::vector<std::string>& words) {
    const absl::Status status = ReadChanged(change);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    ExpectRefusal(status, words);
  };
  refuse([](json& file) { file["format"] = "else"; }, {path_, "else"});
  refuse([](json& file) { file["version"] = 2; }, {path_, "2"});
  refuse([](json& file) { file["method"] = "magic"; }, {path_, "method", "magic"});
  refuse([](json& file) { file["target"] = 1.5; }, {path_, "target", "1.5"});
  refuse([](json& file) { file["tokens"] = -1; }, {path_, "tokens"});
  refuse([](json& file) { file["layers"].erase(1); }, {path_, "layers", "2"});
  refuse([](json& file) { file["layers"][1]["down"]["magnitude"] = -0.5; },
         {path_, "layer 1", "down", "-0.5"});
  refuse([](json& file) { file["layers"][1]["down"]["magnitude"] = 1e39; }, {path_, "layer 1", "magnitude"});
  refuse([](json& file) { file["layers"][0]["gate"]["share"] = 2; }, {path_, "layer 0", "gate", "share"});
  refuse([](json& file) { file["layers"][0].erase("attention"); }, {path_, "layer 0", "attention"});
  refuse([](json& file) { file["layers"][0]["skipped"] = "much"; }, {path_, "layer 0", "skipped"});
  folder_.Write("thresholds.json", "{\"format\": \"thermocline thresholds\"");
  ExpectRefusal(ReadThresholds(path_, kModel).status(), {path_});
}

}  // namespace
}  // namespace thermocline
