// safetensors: valid files and folders, an independent writer, and a table of malformed files.
// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

constexpr char kFile[] = "folder/model.safetensors";

absl::Status Parse(const std::string& text) {
  const ExactBytes bytes(text);
  TensorTable table("folder");
  return ParseSafetensors(bytes.span(), kFile, table);
}

TEST(Safetensors, ReadsWhatWasWritten) {
  SafetensorsWriter writer;
  writer.Add("matrix", {2, 3}).Add("scalar", {}).Add("half", {2}, "F16", std::string("\x00\x3C\x00\xC0", 4));
  writer.Add("ids", {1, 2}, "I64", std::string(16, '\0')).Add("odd", {3, 7}, "F4", std::string(11, '\0'));
  writer.Add("nothing", {0, 4}, "F32", "");
  const ExactBytes bytes(writer.Bytes());
  TensorTable table("folder");
  const absl::Status status = ParseSafetensors(bytes.span(), kFile, table);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_THAT(table.Find("matrix")->shape, testing::ElementsAre(2, 3));
  EXPECT_EQ(table.Matrix("matrix", 2, 3)->row_stride_bytes, 12);
  EXPECT_THAT(*table.Vector("half", 2), testing::ElementsAre(1.0f, -2.0f));
  EXPECT_TRUE(table.Find("scalar")->shape.empty());
  ExpectRefusal(table.Matrix("ids", 1, 2).status(), {kFile, "'ids'", "I64", "not supported"});
  ExpectRefusal(table.Matrix("odd", 3, 7).status(), {kFile, "'odd'", "F4", "not supported"});
  ExpectRefusal(table.Matrix("nothing", 0, 4).status(), {kFile, "'nothing'", "F32 without elements"});
}

TEST(Safetensors, GivesMetadataAndEveryType) {
  const ExactBytes bytes(SafetensorsBytes(
      R"({"__metadata__":{"a":"text","b":""},"ids":{"dtype":"I8","shape":[3],"data_offsets":[0,3]}})",
      "xyz"));
  const auto contents = ReadSafetensors(bytes.span(), kFile);
  ASSERT_TRUE(contents.ok()) << contents.status();
  EXPECT_THAT(contents->metadata, testing::ElementsAre(testing::Pair("a", "text"), testing::Pair("b", "")));
  ASSERT_EQ(contents->tensors.size(), 1u);
  EXPECT_EQ(contents->tensors[0].name, "ids");
  EXPECT_EQ(contents->tensors[0].type, "I8");
  EXPECT_THAT(contents->tensors[0].shape, testing::ElementsAre(3));
  EXPECT_EQ(std::memcmp(contents->tensors[0].bytes.data(), "xyz", 3), 0);
}

TEST(Safetensors, SpacesBehindTheHeaderAreAllowed) {
  EXPECT_TRUE(
      Parse(SafetensorsBytes(R"({"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}   )", "xx")).ok());
  EXPECT_TRUE(Parse(SafetensorsBytes("{}", "")).ok());
}

// Written by the format's own Python package: tests/support/golden/make_model_fixtures.py.
TEST(Safetensors, ReadsAnIndependentWriter) {
  const std::string folder = THERMOCLINE_SOURCE_DIR "/tests/support/golden/";
  std::ifstream stream(folder + "model_fixtures.json");
  const auto expected = nlohmann::json::parse(stream);
  const auto mapped = MappedFile::Open(folder + "python.safetensors");
  ASSERT_TRUE(mapped.ok());
  TensorTable table("folder");
  const absl::Status status = ParseSafetensors(mapped->bytes(), "python.safetensors", table);
  ASSERT_TRUE(status.ok()) << status;
  for (const auto& tensor : expected["safetensors"]) {
    const std::string name = tensor["name"];
    ASSERT_TRUE(table.Contains(name)) << name;
    const TensorInfo* found = table.Find(name);
    ASSERT_EQ(found == nullptr, tensor["type"] == "I64") << name;
    if (found == nullptr) continue;
    EXPECT_EQ(NameOf(found->type), tensor["type"].get<std::string>());
    EXPECT_EQ(found->shape, tensor["shape"].get<std::vector<int64_t>>()) << name;
    EXPECT_EQ(Sha256Hex(found->bytes), tensor["sha256"].get<std::string>()) << name;
  }
  EXPECT_EQ(*table.Vector("vector", 64), expected["vector"].get<std::vector<float>>());
}

struct Row {
  std::string name;
  std::string header;
  size_t data_bytes;
  std::vector<std::string> words;
  std::optional<uint64_t> header_length;
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

const Row kRows[] = {
    {"header_beyond_the_file", "{}", 4, {"header's length is 7", "limit is 6"}, 7},
    {"header_length_wraps", "{}", 4, {"header's length is 18446744073709551615", "limit"}, UINT64_MAX},
    {"header_empty", "", 4, {"must start with '{'"}, {}},
    {"header_starts_with_space", " {}", 0, {"must start with '{'"}, {}},
    {"header_is_an_array", "[]", 0, {"must start with '{'"}, {}},
    {"header_is_no_json", "{\"a\"", 0, {"not valid JSON at byte"}, {}},
    {"header_has_text_behind", "{}{}", 0, {"not valid JSON at byte"}, {}},
    {"header_is_no_utf8", "{\"\xff\":1}", 0, {"not valid JSON at byte"}, {}},
    {"nested_deeply", "{\"a\":" + std::string(10'000, '['), 0, {"'a'", "an array is not allowed"}, {}},
    {"nested_in_metadata",
     R"({"__metadata__":{"a":{"b":1}}})",
     0,
     {"'__metadata__'", "an object is not allowed"},
     {}},
    {"metadata_of_numbers",
     R"({"__metadata__":{"a":1}})",
     0,
     {"'__metadata__'", "a number is not allowed"},
     {}},
    {"metadata_twice",
     R"({"__metadata__":{},"__metadata__":{}})",
     0,
     {"'__metadata__' is given twice", "limit"},
     {}},
    {"metadata_name_twice",
     R"({"__metadata__":{"a":"1","b":"2","a":"3"}})",
     0,
     {"'__metadata__' gives 'a' twice", "limit"},
     {}},
    {"tensor_is_a_number", R"({"a":1})", 0, {"'a'", "a number is not allowed"}, {}},
    {"tensor_is_null", R"({"a":null})", 0, {"'a'", "null is not allowed"}, {}},
    {"tensor_lacks_dtype", R"({"a":{"shape":[1],"data_offsets":[0,4]}})", 4, {"'a' lacks dtype"}, {}},
    {"tensor_lacks_shape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, {"'a' lacks shape"}, {}},
    {"tensor_lacks_offsets", R"({"a":{"dtype":"F32","shape":[1]}})", 4, {"'a' lacks data_offsets"}, {}},
    {"unknown_field", R"({"a":{"size":1}})", 4, {"'a' has the unknown field 'size'"}, {}},
    {"field_twice",
     R"({"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}})",
     4,
     {"'a': dtype is given twice", "limit"},
     {}},
    {"shape_negative",
     R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
     4,
     {"'a': shape", "a negative number"},
     {}},
    {"shape_fraction",
     R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})",
     4,
     {"'a': shape", "no 64-bit integer"},
     {}},
    {"shape_above_64_bits",
     R"({"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}})",
     4,
     {"'a': shape", "no 64-bit integer"},
     {}},
    {"shape_above_63_bits",
     R"({"a":{"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4]}})",
     4,
     {"'a': dimension 0 is 18446744073709551615", "limit"},
     {}},
    {"shape_product_wraps",
     R"({"a":{"dtype":"F32","shape":[4294967296,1073741825],"data_offsets":[0,4]}})",
     4,
     {"'a': shape [4294967296, 1073741825] of F32 needs 2^64 or more bytes", "limit it to 4"},
     {}},
    {"shape_too_long",
     R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
     4,
     {"'a': shape is longer", "limit of 8"},
     {}},
    {"shape_is_not_the_span",
     R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
     4,
     {"'a': shape [2] of F32 needs 8 bytes", "limit it to 4"},
     {}},
    {"dimension_zero_with_bytes",
     R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,4]}})",
     4,
     {"'a': shape [0] of F32 needs 0 bytes", "limit it to 4"},
     {}},
    {"offsets_backwards",
     R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})",
     4,
     {"'a': data_offsets [4, 0]", "limit"},
     {}},
    {"offsets_beyond_the_file",
     R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
     4,
     {"'a': data_offsets [0, 8]", "limit is the 4 bytes"},
     {}},
    {"one_offset",
     R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})",
     4,
     {"'a': data_offsets holds 1 numbers", "limit is 2"},
     {}},
    {"three_offsets",
     R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})",
     4,
     {"'a': data_offsets is longer", "limit of 2"},
     {}},
    {"overlap",
     R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
     12,
     {"'b' starts at offset 4, an overlap below the limit of 8"},
     {}},
    {"hole",
     R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
     12,
     {"'b' starts at offset 8, a hole above the limit of 4"},
     {}},
    {"hole_in_front",
     R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
     8,
     {"'a' starts at offset 4", "hole"},
     {}},
    {"hole_behind",
     R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
     8,
     {"end at offset 4, a hole before the limit of 8"},
     {}},
    {"tensor_twice",
     R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
     8,
     {"'a' is given twice", "limit is once"},
     {}},
    {"unreadable_tensor_twice",
     R"({"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}})",
     8,
     {"'a' is given twice"},
     {}},
    {"empty_name", R"({"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4, {"name is empty"}, {}},
    {"control_characters_in_name", "{\"a\\n\\u001b\":1}", 4, {"'a\\x0a\\x1b'"}, {}},
};

class HostileSafetensors : public testing::TestWithParam<Row> {};

TEST_P(HostileSafetensors, IsRefusedWithOneLine) {
  const Row& row = GetParam();
  std::vector<std::string> words = row.words;
  words.push_back(kFile);
  ExpectRefusal(Parse(SafetensorsBytes(row.header, std::string(row.data_bytes, 'x'), row.header_length)),
                words);
}

INSTANTIATE_TEST_SUITE_P(Table, HostileSafetensors, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& row) { return row.param.name; });

// Apart from the table, whose rows every test process makes.
TEST(Safetensors, HeaderAbove100MegabytesIsRefused) {
  ExpectRefusal(Parse(SafetensorsBytes(std::string(100'000'001, ' '), "")),
                {kFile, "header's length is 100000001", "limit is 100000000"});
}

TEST(Safetensors, TruncationAtEveryByteIsRefused) {
  SafetensorsWriter writer;
  const std::string valid = writer.Add("a", {2, 3}).Add("b", {4}).Bytes();
  ASSERT_TRUE(Parse(valid).ok());
  for (size_t size = 0; size < valid.size(); ++size) ExpectRefusal(Parse(valid.substr(0, size)), {kFile});
}

std::string Index(const std::string& map) {
  return R"({"metadata":{"total_size":1},"weight_map":)" + map + "}";
}

TEST(SafetensorsFolder, ShardsMakeOneTable) {
  const TemporaryFolder folder;
  folder.Write("model.safetensors.index.json", Index(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})"));
  folder.Write("m-1.safetensors", SafetensorsWriter().Add("a", {2}).Bytes());
  folder.Write("m-2.safetensors", SafetensorsWriter().Add("b", {3}).Bytes());
  const auto table = OpenSafetensorsFolder(folder.path());
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->files().size(), 2u);
  EXPECT_THAT(*table->Vector("b", 3), testing::ElementsAre(0.0f, 1.0f, 2.0f));
}

TEST(SafetensorsFolder, RefusalsNameTheShard) {
  const TemporaryFolder folder;
  const std::string index = folder.path() + "/model.safetensors.index.json";
  const auto refuse = [&](const std::string& text, const std::vector<std::string>& words) {
    folder.Write("model.safetensors.index.json", text);
    ExpectRefusal(OpenSafetensorsFolder(folder.path()).status(), words);
  };
  ExpectRefusal(OpenSafetensorsFolder(folder.path()).status(),
                {folder.path(), "neither model.safetensors nor"});
  folder.Write("m-1.safetensors", SafetensorsWriter().Add("a", {2}).Bytes());
  refuse(Index(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})"), {"m-2.safetensors", "no such file"});
  refuse(Index(R"({"a":"m-1.safetensors","b":"m-1.safetensors"})"), {index, "'b' is not in m-1.safetensors"});
  folder.Write("m-2.safetensors", SafetensorsWriter().Add("a", {2}).Bytes());
  refuse(Index(R"({"a":"m-1.safetensors","b":"m-2.safetensors"})"),
         {"m-2.safetensors", "'a' is given twice"});
  for (const std::string outside :
       {"../m.safetensors", "/etc/m.safetensors", "sub/m.safetensors", "..\\\\m.safetensors",
        "a\\u0000.safetensors", "..", "", ".safetensors", "m.bin"}) {
    refuse(Index(R"({"a":")" + outside + "\"}"),
           {index, "weight_map 'a'", "limit is a .safetensors file in the same folder"});
  }
  refuse(Index(R"({"a":5})"), {index, "weight_map 'a' must be a string, found number"});
  refuse(Index("[]"), {index, "weight_map must be an object"});
  refuse(Index("{}"), {index, "weight_map must be an object with one tensor at least"});
  refuse("{}", {index, "weight_map"});
  refuse(Index(R"({"a":"m-1.safetensors","a":"m-1.safetensors"})"), {index, "'a' is given twice"});
  refuse(Index(std::string(1000, '[')), {index, "nested deeper than the limit of 64"});
  refuse("{", {index, "not valid JSON at byte"});
}

}  // namespace
}  // namespace thermocline
