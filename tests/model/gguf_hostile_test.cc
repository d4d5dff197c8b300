// Malformed GGUF files: each is refused with one line that names file, field and limit.
// SPDX-License-Identifier: Apache-2.0
//
// Rows named after a year and number are the CVEs of other GGUF loaders whose missing check they need. Three
// of that list have no file to refuse: 2026-43629 (cell count of a restored state), 2025-52566 (signed
// compare when tokenizing) and 2026-21869 (negative request field). Of 2025-49847 (token length cast to 32
// bits) the half that is in a file is here: a token longer than the file.
#include <gtest/gtest.h>

#include <functional>

#include "model/gguf_file.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"

namespace thermocline {
namespace {

constexpr uint64_t kHuge = uint64_t{1} << 62;
constexpr char kFile[] = "folder/hostile.gguf";

struct Row {
  std::string name;
  std::function<void(GgufWriter&)> damage;
  std::vector<std::string> words;  // of the message: field and limit; the file's name is always expected
};
void PrintTo(const Row& row, std::ostream* stream) { *stream << row.name; }

// A valid file of two tensors and a few pairs.
GgufWriter Valid() {
  GgufWriter writer;
  writer.SetString("general.architecture", "llama")
      .SetStrings("tokenizer.ggml.tokens", {"<unk>", "a"})
      .SetFloats("tokenizer.ggml.scores", {0.0f, -1.0f})
      .AddTensor("first", {2, 8})
      .AddTensor("second", {4});
  return writer;
}

std::string ArrayHeader(uint32_t type, uint64_t count) { return LittleEndian(type) + LittleEndian(count); }

const Row kRows[] = {
    {"2024_23605_pair_count",
     [](GgufWriter& w) { w.pair_count = UINT64_MAX; },
     {"metadata count is 18446744073709551615", "limit"}},
    {"2024_23605_pair_count_times_size_wraps",
     [](GgufWriter& w) { w.pair_count = (uint64_t{1} << 60) + 1; },
     {"metadata count is 1152921504606846977", "limit"}},
    {"2024_23605_pair_count_too_small",
     [](GgufWriter& w) { w.pair_count = w.pairs.size() - 1; },
     {"'tokenizer.ggml.scores'", "9 dimensions", "limit"}},
    {"2024_21836_tensor_count",
     [](GgufWriter& w) { w.tensor_count = UINT64_MAX; },
     {"tensor count is 18446744073709551615", "limit"}},
    {"2024_21836_tensor_count_times_size_wraps",
     [](GgufWriter& w) { w.tensor_count = (uint64_t{1} << 58) + 1; },
     {"tensor count is 288230376151711745", "limit"}},
    {"2024_21825_array_count",
     [](GgufWriter& w) { w.Set("x", GgufWriter::kArray, ArrayHeader(GgufWriter::kFloat32, kHuge)); },
     {"'x'", "array length is 4611686018427387904", "limit"}},
    {"2024_21825_array_count_times_size_wraps",
     [](GgufWriter& w) { w.Set("x", GgufWriter::kArray, ArrayHeader(GgufWriter::kUint64, kHuge / 2 + 1)); },
     {"'x'", "array length is 2305843009213693953", "limit"}},
    {"2024_21825_bool_array_count",
     [](GgufWriter& w) { w.Set("x", GgufWriter::kArray, ArrayHeader(GgufWriter::kBool, UINT64_MAX)); },
     {"'x'", "array length", "limit"}},
    {"2024_21825_string_array_count",
     [](GgufWriter& w) {
       w.Set("tokenizer.ggml.tokens", GgufWriter::kArray, ArrayHeader(GgufWriter::kString, kHuge));
     },
     {"'tokenizer.ggml.tokens'", "array length is 4611686018427387904", "limit"}},
    {"2024_23496_string_length_plus_one_wraps",
     [](GgufWriter& w) { w.Set("x", GgufWriter::kString, GgufString("text", UINT64_MAX)); },
     {"'x'", "string length is 18446744073709551615", "limit"}},
    {"2024_23496_key_length",
     [](GgufWriter& w) {
       w.magic = "GGUF";
       w.pairs.insert(w.pairs.begin(), {std::string(70000, 'k'), GgufWriter::kUint32, LittleEndian(1u)});
     },
     {"metadata key 0", "string length is 70000", "limit is 65535"}},
    {"2024_21802_dimensions",
     [](GgufWriter& w) {
       w.FindTensor("first").dimensions = {1, 1, 1, 1, 1};
     },
     {"'first'", "5 dimensions", "limit is 1 to 4"}},
    {"2024_21802_no_dimensions",
     [](GgufWriter& w) { w.FindTensor("first").dimensions.clear(); },
     {"'first'", "0 dimensions", "limit is 1 to 4"}},
    {"2024_32878_array_ends_in_the_middle",
     [](GgufWriter& w) {
       w.tensors.clear();
       w.Set("x", GgufWriter::kArray,
             ArrayHeader(GgufWriter::kString, 3) + GgufString("one") + GgufString("two", 1000) +
                 std::string(32, ' '));
     },
     {"'x'", "string length is 1000", "limit"}},
    {"2024_41130_ends_before_the_tensor_list",
     [](GgufWriter& w) {
       w.tensor_count = 1;
       w.tensors.clear();
       w.Set("x", GgufWriter::kString, LittleEndian(kHuge) + std::string(64, ' '));
     },
     {"'x'", "string length is 4611686018427387904", "limit"}},
    {"2025_49847_token_length",
     [](GgufWriter& w) {
       w.Set("tokenizer.ggml.tokens", GgufWriter::kArray,
             ArrayHeader(GgufWriter::kString, 1) + GgufString("a", (uint64_t{1} << 32) + 1));
     },
     {"'tokenizer.ggml.tokens'", "string length is 4294967297", "limit"}},
    {"2025_53630_padded_sizes_wrap",
     [](GgufWriter& w) {
       w.FindTensor("first").dimensions = {8, (uint64_t{1} << 59) - 1};  // 2^64 - 32 bytes
       w.FindTensor("second").dimensions = {8, 1};                       // 32 more: the sum is 0
     },
     {"'first'", "shape [576460752303423487, 8] of F32", "limit"}},
    {"2026_27940_sum_of_sizes_wraps",
     [](GgufWriter& w) {
       w.FindTensor("first").dimensions = {8, uint64_t{1} << 58};  // two times 2^63 bytes make 0
       w.FindTensor("second").dimensions = {8, uint64_t{1} << 58};
     },
     {"'first'", "shape [288230376151711744, 8] of F32", "limit"}},
    {"2026_33298_row_bytes_wrap",
     [](GgufWriter& w) { w.FindTensor("first").dimensions = {kHuge}; },
     {"'first'", "a row of 4611686018427387904 F32 elements overflows 64 bits"}},
    {"2026_33298_tensor_bytes_wrap",
     [](GgufWriter& w) {
       w.FindTensor("first").dimensions = {uint64_t{1} << 32, uint64_t{1} << 30};
     },
     {"'first'", "shape [1073741824, 4294967296] of F32", "limit"}},
    {"2026_33298_elements_wrap_where_bytes_do_not",
     [](GgufWriter& w) {
       w.FindTensor("first").dimensions = {256, uint64_t{1} << 31, uint64_t{1} << 31};
       w.FindTensor("first").type = 2;
     },
     {"'first'", "shape", "Q4_0", "limit"}},
    {"2026_33298_dimension_above_63_bits",
     [](GgufWriter& w) { w.FindTensor("first").dimensions = {UINT64_MAX}; },
     {"'first'", "dimension 0 is 18446744073709551615", "limit"}},
    {"2026_7482_tensor_beyond_the_file",
     [](GgufWriter& w) { w.FindTensor("second").offset = 96; },
     {"'second'", "offset 96", "limit is the 96 bytes"}},
    {"2026_7482_offset_plus_size_wraps",
     [](GgufWriter& w) { w.FindTensor("second").offset = UINT64_MAX - 31; },
     {"'second'", "offset 18446744073709551584", "limit"}},
    {"alignment_zero",
     [](GgufWriter& w) { w.SetUint("general.alignment", 0); },
     {"general.alignment is 0", "limit is a power of two from 8 to 65536"}},
    {"alignment_huge",
     [](GgufWriter& w) { w.SetUint("general.alignment", uint32_t{1} << 31); },
     {"general.alignment is 2147483648", "limit"}},
    {"alignment_not_a_power",
     [](GgufWriter& w) { w.SetUint("general.alignment", 48); },
     {"general.alignment is 48", "limit"}},
    {"alignment_small",
     [](GgufWriter& w) { w.SetUint("general.alignment", 4); },
     {"general.alignment is 4", "limit"}},
    {"alignment_of_wrong_type",
     [](GgufWriter& w) { w.SetString("general.alignment", "32"); },
     {"'general.alignment'", "an unsigned integer", "a string"}},
    {"alignment_negative",
     [](GgufWriter& w) { w.Set("general.alignment", GgufWriter::kInt32, LittleEndian<int32_t>(-32)); },
     {"'general.alignment' is -32", "least is 0"}},
    {"dimension_zero",
     [](GgufWriter& w) {
       w.FindTensor("first").dimensions = {0, 2};
     },
     {"'first'", "dimension 0 is 0", "limit is 1"}},
    {"empty_key", [](GgufWriter& w) { w.SetUint("", 1); }, {"metadata key is empty", "least length is 1"}},
    {"duplicate_key",
     [](GgufWriter& w) { w.pairs.push_back(w.pairs.front()); },
     {"'general.architecture' is given twice", "limit is once"}},
    {"duplicate_tensor",
     [](GgufWriter& w) { w.AddTensor("first", {4}); },
     {"'first' is given twice", "limit is once"}},
    {"empty_tensor_name",
     [](GgufWriter& w) { w.FindTensor("first").name = ""; },
     {"tensor's name is empty", "least length is 1"}},
    {"long_tensor_name",
     [](GgufWriter& w) { w.FindTensor("first").name = std::string(256, 'n'); },
     {"the name of tensor 0", "256", "limit is 255"}},
    {"overlapping_tensors",
     [](GgufWriter& w) { w.FindTensor("second").offset = 32; },
     {"'second' at offset 32", "overlaps tensor 'first'", "limit is 64"}},
    {"misaligned_tensor",
     [](GgufWriter& w) { w.FindTensor("second").offset = 68; },
     {"'second'", "offset 68", "alignment 32"}},
    {"row_is_no_multiple_of_the_block",
     [](GgufWriter& w) { w.FindTensor("first").type = 8; },
     {"'first'", "8 columns", "Q8_0's block of 32"}},
    {"unsupported_type",
     [](GgufWriter& w) { w.FindTensor("first").type = 23; },
     {"'first' has type IQ4_XS", "supported are F32, F16"}},
    {"unknown_type",
     [](GgufWriter& w) { w.FindTensor("first").type = 4000000000; },
     {"'first' has type number 4000000000", "supported are"}},
    {"unknown_value_type",
     [](GgufWriter& w) { w.Set("x", 13, std::string(8, '\0')); },
     {"'x' has value type 13", "limit is 12"}},
    {"unknown_array_type",
     [](GgufWriter& w) { w.Set("x", GgufWriter::kArray, ArrayHeader(13, 0)); },
     {"'x' is an array of value type 13", "limit is 12"}},
    {"array_of_arrays",
     [](GgufWriter& w) {
       w.Set("x", GgufWriter::kArray,
             ArrayHeader(GgufWriter::kArray, 1) + ArrayHeader(GgufWriter::kUint8, 0));
     },
     {"'x' is an array of arrays", "limit is one level"}},
    {"boolean_of_2",
     [](GgufWriter& w) { w.Set("x", GgufWriter::kBool, "\x02"); },
     {"'x' is a boolean of value 2", "limit is 1"}},
    {"boolean_of_2_in_array",
     [](GgufWriter& w) { w.Set("x", GgufWriter::kArray, ArrayHeader(GgufWriter::kBool, 1) + "\x02"); },
     {"'x' is a boolean of value 2", "limit is 1"}},
    {"key_with_control_characters",
     [](GgufWriter& w) { w.Set("a\nb\x1b[31m", 99, ""); },
     {"'a\\x0ab\\x1b[31m' has value type 99"}},
    {"wrong_magic",
     [](GgufWriter& w) { w.magic = "PK\x03\x04"; },
     {"magic number is 'PK\\x03\\x04'", "'GGUF'"}},
    {"version_0", [](GgufWriter& w) { w.version = 0; }, {"version field 0x0"}},
    {"version_1", [](GgufWriter& w) { w.version = 1; }, {"version 1", "only versions 2 and 3"}},
    {"version_4", [](GgufWriter& w) { w.version = 4; }, {"version 4", "only versions 2 and 3"}},
    {"big_endian", [](GgufWriter& w) { w.version = 0x03000000; }, {"big-endian", "only little-endian"}},
};

class HostileGguf : public testing::TestWithParam<Row> {};

TEST_P(HostileGguf, IsRefusedWithOneLine) {
  GgufWriter writer = Valid();
  GetParam().damage(writer);
  const ExactBytes bytes(writer.Bytes());
  std::vector<std::string> words = GetParam().words;
  words.push_back(kFile);
  ExpectRefusal(GgufFile::Parse(bytes.span(), kFile).status(), words);
}

INSTANTIATE_TEST_SUITE_P(Table, HostileGguf, testing::ValuesIn(kRows),
                         [](const testing::TestParamInfo<Row>& row) { return row.param.name; });

TEST(HostileGgufBase, IsValidBeforeTheDamage) {
  const ExactBytes bytes(Valid().Bytes());
  ASSERT_TRUE(GgufFile::Parse(bytes.span(), kFile).ok());
}

// 2024-41130 and like it: nothing behind the part that was read.
TEST(HostileGgufTruncation, AtEveryByteIsRefusedOrOnlyPaddingIsLost) {
  const std::string valid = TinyLlamaGguf().SetStrings("t", {"", "abc"}).SetFloats("f", {1, 2}).Bytes();
  const std::string small = Valid().Bytes();
  // "second" has 16 bytes and 16 of padding, which a reader does not need.
  const size_t needed = small.size() - 16;
  for (size_t size = 0; size < small.size(); ++size) {
    const ExactBytes bytes(std::string_view(small).substr(0, size));
    const auto gguf = GgufFile::Parse(bytes.span(), kFile);
    if (size >= needed) {
      ASSERT_TRUE(gguf.ok()) << size << ": " << gguf.status();
    } else {
      ASSERT_FALSE(gguf.ok()) << size;
      ExpectRefusal(gguf.status(), {kFile});
    }
  }
  // A whole model, at every byte up to its tensor data and some of that.
  for (size_t size = 0; size < valid.size(); size += size < 4096 ? 1 : 997) {
    const ExactBytes bytes(std::string_view(valid).substr(0, size));
    ExpectRefusal(GgufFile::Parse(bytes.span(), kFile).status(), {kFile});
  }
}

TEST(HostileGgufTypes, ScoresOfTheWrongElementType) {
  const ExactBytes bytes(Valid().SetInts("tokenizer.ggml.scores", {0, 1}).Bytes());
  const auto gguf = GgufFile::Parse(bytes.span(), kFile);
  ASSERT_TRUE(gguf.ok());
  ExpectRefusal(
      gguf->metadata.Floats("tokenizer.ggml.scores").status(),
      {kFile, "'tokenizer.ggml.scores'", "an array of floats", "found an array of signed integers"});
}

}  // namespace
}  // namespace thermocline
