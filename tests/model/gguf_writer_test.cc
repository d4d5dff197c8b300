// The streaming GGUF writer: what the reader gets back, what is refused, what a failure leaves.
// SPDX-License-Identifier: Apache-2.0
#include "model/gguf_writer.h"

#include <gtest/gtest.h>

#include "model/gguf_file.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

std::vector<std::byte> Counting(size_t size, int first) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(first + static_cast<int>(i));
  return bytes;
}

TEST(GgufFileWriter, TheReaderGetsBackWhatWasWritten) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a.gguf";
  GgufHeader header;
  const std::vector<std::string> texts = {"", "two"};
  const std::vector<float> floats = {1.5f, -2.0f};
  const std::vector<int32_t> ints = {-1, 2};
  header.AddString("s", std::string("a\0b", 3)).AddUint("u", 7).AddFloat("f", 0.5f).AddBool("b", true);
  header.AddStrings("ss", texts).AddFloats("fs", floats).AddInts("is", ints).AddBools("bs", {true, false});
  const std::string raw = LittleEndian<uint32_t>(10) + LittleEndian<uint64_t>(uint64_t{1} << 40);  // UINT64
  header.AddRaw("raw", std::as_bytes(std::span(raw)));
  ASSERT_TRUE(header.AddTensor("matrix", std::vector<int64_t>{3, 32}, ElementType::kQ4_0).ok());
  ASSERT_TRUE(header.AddTensor("vector", std::vector<int64_t>{5}, ElementType::kF32).ok());
  ASSERT_TRUE(header.AddTensor("cube", std::vector<int64_t>{2, 3, 4}, ElementType::kF16).ok());
  auto writer = GgufFileWriter::Create(path, header);
  ASSERT_TRUE(writer.ok()) << writer.status();
  const std::vector<std::byte> matrix = Counting(54, 1), vector = Counting(20, 100), cube = Counting(48, 150);
  ASSERT_TRUE(writer->Append(std::span(matrix).first(18)).ok());
  ASSERT_TRUE(writer->Append({}).ok());
  ASSERT_TRUE(writer->Append(std::span(matrix).subspan(18)).ok());
  ASSERT_TRUE(writer->Append(vector).ok());
  ASSERT_TRUE(writer->Append(cube).ok());
  EXPECT_FALSE(std::filesystem::exists(path));
  ASSERT_TRUE(writer->Finish().ok());

  const auto gguf = GgufFile::Open(path);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ(*gguf->metadata.String("s"), std::string_view("a\0b", 3));
  EXPECT_EQ(*gguf->metadata.Uint("u"), 7u);
  EXPECT_EQ(*gguf->metadata.Float("f"), 0.5);
  EXPECT_EQ(*gguf->metadata.Bool("b"), true);
  EXPECT_THAT(**gguf->metadata.Strings("ss"), testing::ElementsAre("", "two"));
  EXPECT_THAT(*gguf->metadata.Floats("fs"), testing::ElementsAre(1.5f, -2.0f));
  EXPECT_THAT(*gguf->metadata.Ints("is"), testing::ElementsAre(-1, 2));
  EXPECT_EQ(std::get<std::vector<bool>>(*gguf->metadata.Find("bs")), (std::vector<bool>{true, false}));
  EXPECT_EQ(*gguf->metadata.Uint("raw"), uint64_t{1} << 40);
  const GgufMetadata::RawPair& last = gguf->metadata.raw_pairs().back();
  EXPECT_EQ(last.key, "raw");
  EXPECT_TRUE(std::ranges::equal(last.value, std::as_bytes(std::span(raw))));
  const auto expect = [&](std::string_view name, const std::vector<int64_t>& shape,
                          const std::vector<std::byte>& bytes) {
    const TensorInfo* tensor = gguf->tensors.Find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(tensor->shape, shape) << name;
    EXPECT_TRUE(std::ranges::equal(tensor->bytes, bytes)) << name;
  };
  expect("matrix", {3, 32}, matrix);
  expect("vector", {5}, vector);
  expect("cube", {2, 3, 4}, cube);
}

TEST(GgufHeader, RefusesImpossibleTensors) {
  GgufHeader header;
  const auto add = [&](std::string_view name, const std::vector<int64_t>& shape,
                       ElementType type = ElementType::kF32) { return header.AddTensor(name, shape, type); };
  constexpr int64_t kHuge = int64_t{1} << 40;
  ExpectRefusal(add("", {1}), {"name", "0 bytes", "255"});
  ExpectRefusal(add(std::string(256, 'x'), {1}), {"256 bytes", "255"});
  ExpectRefusal(add("t", {}), {"'t'", "0 dimensions"});
  ExpectRefusal(add("t", {1, 1, 1, 1, 1}), {"'t'", "5 dimensions", "4"});
  ExpectRefusal(add("t", {0, 32}), {"'t'", "dimension of 0"});
  ExpectRefusal(add("t", {2, 33}, ElementType::kQ4_0), {"'t'", "33", "32"});
  ExpectRefusal(add("t", {kHuge, kHuge}), {"'t'", "2^64"});
  ASSERT_TRUE(add("half", {int64_t{1} << 30, int64_t{1} << 30}).ok());  // 2^62 bytes
  ExpectRefusal(add("t", {int64_t{1} << 30, int64_t{1} << 30}), {"'t'", "2^63"});
}

TEST(GgufFileWriter, RefusesBytesThatNoTensorHasAndLeavesTheOldFile) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a.gguf", "old");
  GgufHeader header;
  ASSERT_TRUE(header.AddTensor("first", std::vector<int64_t>{2}, ElementType::kF32).ok());
  ASSERT_TRUE(header.AddTensor("second", std::vector<int64_t>{2}, ElementType::kF32).ok());
  const std::vector<std::byte> bytes(16);
  {
    auto writer = GgufFileWriter::Create(path, header);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(writer->Append(std::span(bytes).first(4)).ok());
    ExpectRefusal(writer->Append(std::span(bytes).first(5)), {path, "'first'", "5 bytes after 4", "8"});
    ExpectRefusal(writer->Finish(), {path, "'first'", "4 bytes of 8"});
    ASSERT_TRUE(writer->Append(std::span(bytes).first(4)).ok());
    ExpectRefusal(writer->Finish(), {path, "'second'", "0 bytes of 8"});
    ASSERT_TRUE(writer->Append(std::span(bytes).first(8)).ok());
    ExpectRefusal(writer->Append(std::span(bytes).first(1)), {path, "1 bytes more", "2 tensors"});
  }
  EXPECT_EQ(*ReadTextFile(path, 100), "old");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
  ExpectRefusal(GgufFileWriter::Create(folder.path() + "/no/a.gguf", header).status(), {"No such file"});
}

TEST(GgufFileWriter, GoesOnBehindWholeTensors) {
  const TemporaryFolder folder;
  const std::string path = folder.Path("a.gguf");
  GgufHeader header;
  header.AddString("general.name", "this one");
  ASSERT_TRUE(header.AddTensor("first", std::vector<int64_t>{3}, ElementType::kF32).ok());
  ASSERT_TRUE(header.AddTensor("second", std::vector<int64_t>{3}, ElementType::kF32).ok());
  const std::vector<std::byte> first = Counting(12, 1), second = Counting(12, 50);
  {
    auto writer = GgufFileWriter::Resume(path, header, 0);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(writer->Append(first).ok());
    ASSERT_TRUE(writer->Append(std::span(first).first(5)).ok());
  }
  GgufHeader other;
  other.AddString("general.name", "that one");
  ASSERT_TRUE(other.AddTensor("first", std::vector<int64_t>{3}, ElementType::kF32).ok());
  ExpectRefusal(GgufFileWriter::Resume(path, other, 1).status(), {"a.gguf.partial", "does not start as"});
  auto writer = GgufFileWriter::Resume(path, header, 1);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(writer->Append(second).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const GgufFile gguf = *GgufFile::Open(path);
  EXPECT_TRUE(std::ranges::equal(gguf.tensors.Find("first")->bytes, first));
  EXPECT_TRUE(std::ranges::equal(gguf.tensors.Find("second")->bytes, second));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

}  // namespace
}  // namespace thermocline
