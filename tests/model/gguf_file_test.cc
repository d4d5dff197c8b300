// Valid GGUF files: versions, value and tensor types, alignment, split files, another writer's file.
// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

TEST(GgufFile, ReadsWhatWasWritten) {
  for (const uint32_t version : {2u, 3u}) {
    GgufWriter writer;
    writer.version = version;
    writer.SetUint("u", 7).SetFloat("f", 0.5f).SetBool("b", true).SetString("s", std::string("a\0b", 3));
    writer.SetStrings("ss", {"", "two"}).SetFloats("fs", {1.5f}).SetInts("is", {-1, 2}).SetFloats("none", {});
    writer.AddTensor("matrix", {2, 32}, ElementType::kQ8_0).AddTensor("vector", {3});
    const std::string text = writer.Bytes();
    const ExactBytes bytes(text);
    const auto gguf = GgufFile::Parse(bytes.span(), "x.gguf");
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    EXPECT_EQ(*gguf->metadata.Uint("u"), 7u);
    EXPECT_EQ(*gguf->metadata.Float("f"), 0.5);
    EXPECT_EQ(*gguf->metadata.Bool("b"), true);
    EXPECT_EQ(*gguf->metadata.String("s"), std::string_view("a\0b", 3));
    EXPECT_THAT(**gguf->metadata.Strings("ss"), testing::ElementsAre("", "two"));
    EXPECT_THAT(*gguf->metadata.Floats("fs"), testing::ElementsAre(1.5f));
    EXPECT_THAT(*gguf->metadata.Ints("is"), testing::ElementsAre(-1, 2));
    EXPECT_TRUE(gguf->metadata.Floats("none")->empty());
    const TensorInfo* matrix = gguf->tensors.Find("matrix");
    ASSERT_NE(matrix, nullptr);
    EXPECT_THAT(matrix->shape, testing::ElementsAre(2, 32));
    EXPECT_EQ(matrix->type, ElementType::kQ8_0);
    ASSERT_EQ(matrix->bytes.size(), 68u);
    EXPECT_EQ(matrix->bytes[67], std::byte{67});
    EXPECT_EQ(gguf->tensors.Find("vector")->bytes.size(), 12u);
    EXPECT_EQ(gguf->tensors.total_bytes(), 80);
  }
}

TEST(GgufFile, EverySupportedTypeHasItsSize) {
  GgufWriter writer;
  for (const ElementTypeInfo& type : AllElementTypes()) writer.AddTensor(type.name, {3, 256}, type.type);
  const ExactBytes bytes(writer.Bytes());
  const auto gguf = GgufFile::Parse(bytes.span(), "x.gguf");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  for (const ElementTypeInfo& type : AllElementTypes()) {
    const TensorInfo* tensor = gguf->tensors.Find(type.name);
    ASSERT_NE(tensor, nullptr) << type.name;
    EXPECT_EQ(tensor->type, type.type);
    EXPECT_EQ(tensor->bytes.size(), static_cast<size_t>(3 * 256 / type.block_elements * type.block_bytes));
  }
}

TEST(GgufFile, AlignmentMovesTheData) {
  for (const uint32_t alignment : {8u, 32u, 4096u, 65536u}) {
    GgufWriter writer;
    writer.alignment = alignment;
    writer.SetUint("general.alignment", alignment).AddTensor("a", {1}).AddTensor("b", {1});
    const ExactBytes bytes(writer.Bytes());
    const auto gguf = GgufFile::Parse(bytes.span(), "x.gguf");
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    EXPECT_EQ(gguf->tensors.Find("b")->bytes.data() - gguf->tensors.Find("a")->bytes.data(), alignment);
    EXPECT_EQ((gguf->tensors.Find("a")->bytes.data() - bytes.span().data()) % alignment, 0);
  }
}

TEST(GgufFile, WithoutTensors) {
  const ExactBytes bytes(GgufWriter().SetUint("u", 7).Bytes());
  EXPECT_TRUE(GgufFile::Parse(bytes.span(), "x.gguf")->tensors.tensors().empty());
}

TEST(GgufMetadata, TypedAccessNamesWhatIsWrong) {
  GgufMetadata metadata("m.gguf");
  ASSERT_TRUE(metadata.Add("signed", int64_t{-1}).ok());
  ASSERT_TRUE(metadata.Add("positive", int64_t{5}).ok());
  ASSERT_TRUE(metadata.Add("large", std::vector<uint64_t>{1, uint64_t{1} << 63}).ok());
  EXPECT_EQ(*metadata.Uint("positive"), 5u);
  EXPECT_EQ(metadata.Uint("absent").status(), NotFound("m.gguf: metadata key 'absent' is missing"));
  ExpectRefusal(metadata.Uint("signed").status(), {"m.gguf", "'signed' is -1", "least is 0"});
  ExpectRefusal(metadata.Ints("large").status(), {"m.gguf", "element 1 of metadata key 'large'", "limit"});
  ExpectRefusal(metadata.Float("signed").status(), {"'signed' must be a float", "found a signed integer"});
  ExpectRefusal(metadata.Bool("signed").status(), {"must be a boolean"});
  ExpectRefusal(metadata.String("signed").status(), {"must be a string"});
  ExpectRefusal(metadata.Strings("signed").status(), {"must be an array of strings"});
  ExpectRefusal(metadata.Uint("large").status(), {"found an array of unsigned integers"});
  ExpectRefusal(metadata.Add("", true), {"m.gguf", "empty"});
  ExpectRefusal(metadata.Add("signed", true), {"m.gguf", "'signed' is given twice"});
}

GgufWriter Part(uint32_t number, uint32_t count, const std::string& tensor) {
  GgufWriter writer;
  writer.SetUint("split.no", number).SetUint("split.count", count).SetUint("split.tensors.count", count);
  writer.AddTensor(tensor, {4});
  return writer;
}

TEST(GgufSplit, PartsMakeOneTable) {
  const TemporaryFolder folder;
  const std::string first =
      folder.Write("m-00001-of-00003.gguf", Part(0, 3, "a").SetString("s", "kept").Bytes());
  folder.Write("m-00002-of-00003.gguf", Part(1, 3, "b").Bytes());
  folder.Write("m-00003-of-00003.gguf", Part(2, 3, "c").Bytes());
  const auto gguf = GgufFile::Open(first);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(*gguf->metadata.String("s"), "kept");
  EXPECT_EQ(gguf->tensors.files().size(), 3u);
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_THAT(*gguf->tensors.Vector(name, 4), testing::SizeIs(4)) << name;
  }
}

TEST(GgufSplit, RefusalsNameThePart) {
  const TemporaryFolder folder;
  const std::string first = folder.Write("m-00001-of-00002.gguf", Part(0, 2, "a").Bytes());
  ExpectRefusal(GgufFile::Open(first).status(), {"m-00002-of-00002.gguf", "no such file"});
  const std::string second = folder.Write("m-00002-of-00002.gguf", Part(1, 2, "b").Bytes());
  ExpectRefusal(GgufFile::Open(second).status(), {second, "split.no is 1", "give the first part"});
  folder.Write("m-00002-of-00002.gguf", Part(1, 2, "a").Bytes());
  ExpectRefusal(GgufFile::Open(first).status(), {second, "'a' is given twice"});
  folder.Write("m-00002-of-00002.gguf", Part(0, 2, "b").Bytes());
  ExpectRefusal(GgufFile::Open(first).status(), {second, "split.no is 0, expected 1"});
  folder.Write("m-00002-of-00002.gguf", Part(1, 3, "b").Bytes());
  ExpectRefusal(GgufFile::Open(first).status(), {second, "split.count is 3", "the first part says 2"});
  folder.Write("m-00002-of-00002.gguf", Part(1, 2, "b").AddTensor("c", {1}).Bytes());
  ExpectRefusal(GgufFile::Open(first).status(), {first, "split.tensors.count is 2", "hold 3"});
  const std::string renamed = folder.Write("renamed.gguf", Part(0, 2, "a").Bytes());
  ExpectRefusal(GgufFile::Open(renamed).status(), {renamed, "must end in '-00001-of-00002.gguf'"});
  const std::string many = folder.Write("m-00001-of-99999.gguf", Part(0, 100000, "a").Bytes());
  ExpectRefusal(GgufFile::Open(many).status(), {many, "split.count is 100000", "limit is 99999"});
}

// Written by the format's own Python package: tests/support/golden/make_model_fixtures.py.
TEST(GgufFile, ReadsAnIndependentWriter) {
  const std::string folder = THERMOCLINE_SOURCE_DIR "/tests/support/golden/";
  std::ifstream stream(folder + "model_fixtures.json");
  const auto expected = nlohmann::json::parse(stream);
  const auto gguf = GgufFile::Open(folder + "python.gguf");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  const GgufMetadata& metadata = gguf->metadata;
  EXPECT_EQ(*metadata.String("general.architecture"), "llama");
  EXPECT_EQ(*metadata.Uint("general.alignment"), 64u);
  EXPECT_EQ(*metadata.Uint("fixture.uint8"), 250u);
  EXPECT_EQ(std::get<int64_t>(*metadata.Find("fixture.int8")), -5);
  EXPECT_EQ(*metadata.Uint("fixture.uint16"), 65000u);
  EXPECT_EQ(std::get<int64_t>(*metadata.Find("fixture.int16")), -30000);
  EXPECT_EQ(*metadata.Uint("fixture.uint32"), 4000000000u);
  EXPECT_EQ(std::get<int64_t>(*metadata.Find("fixture.int32")), -2000000000);
  EXPECT_EQ(*metadata.Uint("fixture.uint64"), expected["uint64"].get<uint64_t>());
  EXPECT_EQ(std::get<int64_t>(*metadata.Find("fixture.int64")), -(int64_t{1} << 62));
  EXPECT_EQ(*metadata.Float("fixture.float32"), 0.15625);
  EXPECT_EQ(*metadata.Float("fixture.float64"), 1e-300);
  EXPECT_EQ(*metadata.Bool("fixture.bool"), true);
  EXPECT_EQ(*metadata.String("fixture.string"), "na\u00efve \u2603");
  EXPECT_THAT(**metadata.Strings("fixture.strings"), testing::ElementsAre("", "a", "\u2581b"));
  EXPECT_THAT(*metadata.Ints("fixture.ints"), testing::ElementsAre(1, -2, 3));
  EXPECT_THAT(*metadata.Floats("fixture.floats"), testing::ElementsAre(0.5f, -1.25f));
  ASSERT_EQ(gguf->tensors.tensors().size(), expected["gguf"].size());
  for (const auto& tensor : expected["gguf"]) {
    const TensorInfo* found = gguf->tensors.Find(tensor["name"].get<std::string>());
    ASSERT_NE(found, nullptr) << tensor["name"];
    EXPECT_EQ(NameOf(found->type), tensor["type"].get<std::string>());
    EXPECT_EQ(found->shape, tensor["shape"].get<std::vector<int64_t>>()) << tensor["name"];
    EXPECT_EQ(Sha256Hex(found->bytes), tensor["sha256"].get<std::string>()) << tensor["name"];
  }
  EXPECT_EQ(*gguf->tensors.Vector("vector", 64), expected["vector"].get<std::vector<float>>());
}

}  // namespace
}  // namespace thermocline
