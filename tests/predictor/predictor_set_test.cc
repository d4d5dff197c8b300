// predictor.safetensors: what is written comes back, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "predictor/predictor_set.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/mapped_file.h"
#include "model/safetensors_writer.h"
#include "tests/predictor/predictor_testing.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using nlohmann::json;
using testing::SomePredictors;

std::string BytesOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void ExpectSame(const PredictorFigures& a, const PredictorFigures& b) {
  EXPECT_EQ(a.recall, b.recall);
  EXPECT_EQ(a.precision, b.precision);
  EXPECT_EQ(a.marked, b.marked);
}

void ExpectSame(const QuantizedMatrix& a, const QuantizedMatrix& b) {
  EXPECT_EQ(a.rows, b.rows);
  EXPECT_EQ(a.cols, b.cols);
  EXPECT_EQ(a.blocks, b.blocks);
}

TEST(PredictorSet, ComesBackAsWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors";
  const PredictorSet written = SomePredictors();
  ASSERT_TRUE(WritePredictors(written, path).ok());
  const auto read = ReadPredictors(path, written.model);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->model.sha256, written.model.sha256);
  EXPECT_EQ(read->target_recall, written.target_recall);
  EXPECT_EQ(read->fast_recall, written.fast_recall);
  ASSERT_EQ(read->layers.size(), written.layers.size());
  for (size_t l = 0; l < written.layers.size(); ++l) {
    const LayerPredictor &a = read->layers[l], &b = written.layers[l];
    EXPECT_EQ(a.kind, b.kind);
    EXPECT_EQ(a.balanced_threshold, b.balanced_threshold);
    EXPECT_EQ(a.fast_threshold, b.fast_threshold);
    EXPECT_EQ(a.hidden, b.hidden);
    ExpectSame(a.balanced, b.balanced);
    ExpectSame(a.fast, b.fast);
    ExpectSame(a.w1, b.w1);
    ExpectSame(a.w2, b.w2);
    EXPECT_EQ(a.b1, b.b1);
    EXPECT_EQ(a.b2, b.b2);
  }
}

TEST(PredictorSet, SamePredictorsGiveTheSameBytes) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors", again = folder.path() + "/again";
  ASSERT_TRUE(WritePredictors(SomePredictors(), path).ok());
  const auto read = ReadPredictors(path, SomePredictors().model);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_TRUE(WritePredictors(*read, again).ok());
  EXPECT_EQ(BytesOf(path), BytesOf(again));
}

// Q8_0 taken apart: 34 bytes a block, one bit a column of the gate.
TEST(PredictorSet, SizesAreWhatAnEvaluationReads) {
  const PredictorSet predictors = SomePredictors();
  const LayerPredictor& mlp = predictors.layers[0];
  EXPECT_EQ(mlp.SizeBytes(64, 96), std::ssize(mlp.w1.blocks) + std::ssize(mlp.w2.blocks) +
                                       4 * (std::ssize(mlp.b1) + std::ssize(mlp.b2)));
  EXPECT_EQ(predictors.layers[1].SizeBytes(64, 96), 96 * 8);
  EXPECT_EQ(predictors.layers[1].SizeBytes(65, 96), 96 * 16);
}

// Any reader of the format gets tensors of plain types.
TEST(PredictorSet, TensorsHavePlainTypes) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors";
  ASSERT_TRUE(WritePredictors(SomePredictors(), path).ok());
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok());
  const auto contents = ReadSafetensors(file->bytes(), path);
  ASSERT_TRUE(contents.ok()) << contents.status();
  std::vector<std::string> found;
  for (const SafetensorsTensor& tensor : contents->tensors) {
    std::string shape;
    for (const int64_t dimension : tensor.shape) shape += fmt::format(" {}", dimension);
    found.push_back(tensor.name + " " + tensor.type + shape);
  }
  EXPECT_THAT(found, ::testing::UnorderedElementsAre(
                         "layers.0.w1.scales F16 32 2", "layers.0.w1.quants I8 32 64", "layers.0.b1 F32 32",
                         "layers.0.w2.scales F16 96 1", "layers.0.w2.quants I8 96 32", "layers.0.b2 F32 96"));
}

// A file whose parts can be changed before it is written again.
struct OpenFile {
  json metadata;
  std::vector<SafetensorsTensor> tensors;
  std::map<std::string, std::vector<std::byte>> data;

  void Write(const std::string& path) {
    for (SafetensorsTensor& tensor : tensors) tensor.bytes = data[tensor.name];
    ASSERT_TRUE(WriteSafetensors(tensors, {{"thermocline", metadata.dump()}}, path).ok());
  }
  SafetensorsTensor& Tensor(const std::string& name) {
    for (SafetensorsTensor& tensor : tensors)
      if (tensor.name == name) return tensor;
    ADD_FAILURE() << name;
    return tensors[0];
  }
  void Remove(const std::string& name) {
    std::erase_if(tensors, [&](const SafetensorsTensor& tensor) { return tensor.name == name; });
  }
  template <typename T>
  void Set(const std::string& name, size_t index, T value) {
    std::memcpy(data[name].data() + index * sizeof(T), &value, sizeof(T));
  }
};

OpenFile Open(const std::string& path) {
  const auto file = MappedFile::Open(path);
  const auto contents = ReadSafetensors(file->bytes(), path);
  OpenFile open{.metadata = json::parse(contents->metadata.at("thermocline")), .tensors = contents->tensors};
  for (const SafetensorsTensor& tensor : open.tensors)
    open.data[tensor.name] = {tensor.bytes.begin(), tensor.bytes.end()};
  return open;
}

struct Row {
  std::string name;
  std::function<void(OpenFile&)> change;
  std::vector<std::string> words;
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

class PredictorRefusal : public ::testing::TestWithParam<Row> {};

TEST_P(PredictorRefusal, NamesPathLayerAndField) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors";
  ASSERT_TRUE(WritePredictors(SomePredictors(), path).ok());
  OpenFile file = Open(path);
  GetParam().change(file);
  file.Write(path);
  std::vector<std::string> words = GetParam().words;
  words.push_back(path);
  const absl::Status status = ReadPredictors(path, SomePredictors().model).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  ExpectRefusal(status, words);
}

Row Metadata(const std::string& name, std::function<void(json&)> change, std::vector<std::string> words) {
  return {name, [change](OpenFile& file) { change(file.metadata); }, std::move(words)};
}
Row Layer(const std::string& name, size_t layer, std::function<void(json&)> change,
          std::vector<std::string> words) {
  words.push_back(fmt::format("layer {}", layer));
  return Metadata(
      name, [layer, change](json& metadata) { change(metadata["layers"][layer]); }, std::move(words));
}

const Row kRows[] = {
    Metadata("another_format", [](json& m) { m["format"] = 2; }, {"format is 2", "reads 1"}),
    Metadata("no_hash", [](json& m) { m.erase("model_sha256"); }, {"model_sha256", "missing"}),
    Metadata("target_recall_above_1", [](json& m) { m["target_recall"] = 1.5; }, {"target_recall is 1.5"}),
    Metadata("fast_recall_above_target", [](json& m) { m["fast_recall"] = 0.99; },
             {"fast_recall is 0.99", "0.95"}),
    Metadata("layer_missing", [](json& m) { m["layers"].erase(1); }, {"layers", "array of 2", "found are 1"}),
    Metadata("layers_no_array", [](json& m) { m["layers"] = "all"; }, {"layers must be an array"}),
    Metadata("layer_no_object", [](json& m) { m["layers"][1] = 7; }, {"layer 1", "object"}),
    Layer("kind_unknown", 1, [](json& l) { l["kind"] = "oracle\n"; }, {"kind 'oracle\\x0a'", "mlp, sign"}),
    Layer("hidden_of_33", 0, [](json& l) { l["hidden"] = 33; }, {"hidden is 33", "multiples of 32"}),
    Layer("hidden_zero", 0, [](json& l) { l["hidden"] = 0; }, {"hidden is 0"}),
    Layer("hidden_negative", 0, [](json& l) { l["hidden"] = -32; }, {"hidden is -32"}),
    Layer("hidden_absurd", 0, [](json& l) { l["hidden"] = int64_t{1} << 40; },
          {"hidden is 1099511627776", "65536"}),
    Layer("hidden_above_63_bits", 0, [](json& l) { l["hidden"] = UINT64_MAX; },
          {"hidden must be a 64-bit integer"}),
    Layer("hidden_of_sign", 1, [](json& l) { l["hidden"] = 32; }, {"hidden is 32", "sign"}),
    Layer("hidden_of_other_tensors", 0, [](json& l) { l["hidden"] = 64; },
          {"w1.scales is [32, 2] of F16", "expected is [64, 2]"}),
    Layer("threshold_no_number", 0, [](json& l) { l["balanced_threshold"] = nullptr; },
          {"balanced_threshold must be a number"}),
    Layer("threshold_infinite_as_float", 0, [](json& l) { l["fast_threshold"] = 1e300; },
          {"fast_threshold is 1e+300"}),
    Layer("threshold_of_sign_too_large", 1, [](json& l) { l["fast_threshold"] = 64.5; },
          {"fast_threshold is 64.5", "-64 to 64"}),
    Layer("threshold_of_sign_too_small", 1, [](json& l) { l["balanced_threshold"] = -65; },
          {"balanced_threshold is -65", "-64 to 64"}),
    Layer("fast_below_balanced", 0, [](json& l) { l["fast_threshold"] = -0.5; },
          {"fast_threshold is -0.5", "-0.25"}),
    Layer("recall_above_1", 0, [](json& l) { l["fast"]["recall"] = 1.25; }, {"fast.recall is 1.25"}),
    Layer("marked_negative", 1, [](json& l) { l["balanced"]["marked"] = -0.5; }, {"balanced.marked is -0.5"}),
    Layer("figures_missing", 1, [](json& l) { l.erase("balanced"); }, {"balanced must be an object"}),
    Layer("bytes_wrong", 1, [](json& l) { l["bytes"] = 1; }, {"bytes is 1", "768"}),
    Metadata("weights_of_a_sign_predictor",
             [](json& m) {
               json& layer = m["layers"][0];
               layer["kind"] = "sign", layer["hidden"] = 0, layer["bytes"] = 768;
             },
             {"'layers.0.b1' belongs to no predictor"}),
    {"tensor_missing", [](OpenFile& f) { f.Remove("layers.0.b2"); }, {"layer 0", "b2 is missing"}},
    {"tensor_of_nobody",
     [](OpenFile& f) {
       f.tensors.push_back({"layers.1.b1", "F32", {1}, {}});
       f.data["layers.1.b1"].resize(4);
     },
     {"'layers.1.b1' belongs to no predictor"}},
    {"tensor_of_another_type",
     [](OpenFile& f) { f.Tensor("layers.0.w2.quants").type = "U8"; },
     {"layer 0", "w2.quants is [96, 32] of U8", "of I8"}},
    {"tensor_transposed",
     [](OpenFile& f) {
       f.Tensor("layers.0.w2.quants").shape = {32, 96};
     },
     {"layer 0", "w2.quants is [32, 96]", "expected is [96, 32]"}},
    {"scale_not_a_number",
     [](OpenFile& f) { f.Set<uint16_t>("layers.0.w1.scales", 5, 0x7E01); },
     {"layer 0", "w1.scales[2, 1] is nan", "finite"}},
    {"scale_infinite",
     [](OpenFile& f) { f.Set<uint16_t>("layers.0.w2.scales", 95, 0xFC00); },
     {"layer 0", "w2.scales[95, 0] is -inf", "finite"}},
    {"bias_not_a_number",
     [](OpenFile& f) { f.Set<float>("layers.0.b1", 31, std::numeric_limits<float>::quiet_NaN()); },
     {"layer 0", "b1[31] is nan", "finite"}},
    {"bias_infinite",
     [](OpenFile& f) { f.Set<float>("layers.0.b2", 0, std::numeric_limits<float>::infinity()); },
     {"layer 0", "b2[0] is inf", "finite"}},
};
INSTANTIATE_TEST_SUITE_P(Files, PredictorRefusal, ::testing::ValuesIn(kRows),
                         [](const auto& row) { return row.param.name; });

TEST(PredictorSet, AnotherModelsAreRefusedNamingBoth) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors";
  const PredictorSet written = SomePredictors();
  ASSERT_TRUE(WritePredictors(written, path).ok());
  ModelIdentity other = written.model;
  other.sha256 = std::string(64, 'b');
  absl::Status status = ReadPredictors(path, other).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  ExpectRefusal(status, {path, written.model.sha256, other.sha256});
  other = written.model;
  other.d_ff = 128;
  status = ReadPredictors(path, other).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  ExpectRefusal(status, {path, "2 layers, d_model 64, d_ff 96", "2, 64, 128"});
}

TEST(PredictorSet, FilesCutShortAreRefusedWhereverTheyEnd) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors";
  ASSERT_TRUE(WritePredictors(SomePredictors(), path).ok());
  const std::string whole = BytesOf(path);
  for (size_t size = 0; size < whole.size(); size += size < 64 ? 1 : 97) {
    folder.Write("predictor.safetensors", whole.substr(0, size));
    ExpectRefusal(ReadPredictors(path, SomePredictors().model).status(), {path});
  }
}

TEST(PredictorSet, OtherSafetensorsAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors";
  ASSERT_TRUE(WriteSafetensors({}, {{"format", "pt"}}, path).ok());
  ExpectRefusal(ReadPredictors(path, SomePredictors().model).status(), {path, "not a file of predictors"});
  ExpectRefusal(ReadPredictors(folder.path() + "/none", SomePredictors().model).status(), {"none"});
}

TEST(PredictorSet, WhatCouldNotBeReadIsNotWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/predictor.safetensors";
  PredictorSet predictors = SomePredictors();
  predictors.layers[1].balanced_threshold = std::numeric_limits<double>::quiet_NaN();
  ExpectRefusal(WritePredictors(predictors, path), {path, "layer 1", "balanced_threshold is nan"});
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace thermocline
