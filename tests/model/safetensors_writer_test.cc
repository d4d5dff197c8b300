// safetensors written by the program: read back, aligned, the same bytes each time.
// SPDX-License-Identifier: Apache-2.0
#include "model/safetensors_writer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/mapped_file.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

TEST(SafetensorsWriter, WhatIsWrittenIsRead) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a.safetensors";
  const std::vector<int8_t> bytes = {1, -2, 3};
  const std::vector<float> floats = {0.5f, -1.0f};
  const std::vector<SafetensorsTensor> tensors = {
      {"odd \"name\"", "I8", {3, 1}, std::as_bytes(std::span(bytes))},
      {"floats", "F32", {2}, std::as_bytes(std::span(floats))},
      {"none", "F16", {0, 4}, {}}};
  ASSERT_TRUE(WriteSafetensors(tensors, {{"key", "line\nbreak"}}, path).ok());
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto read = ReadSafetensors(file->bytes(), path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->metadata, ::testing::ElementsAre(::testing::Pair("key", "line\nbreak")));
  ASSERT_EQ(read->tensors.size(), 3u);
  for (const SafetensorsTensor& tensor : tensors) {
    const auto same = std::ranges::find(read->tensors, tensor.name, &SafetensorsTensor::name);
    ASSERT_NE(same, read->tensors.end()) << tensor.name;
    EXPECT_EQ(same->type, tensor.type);
    EXPECT_EQ(same->shape, tensor.shape);
    EXPECT_TRUE(std::ranges::equal(same->bytes, tensor.bytes)) << tensor.name;
    const auto offset = static_cast<uint64_t>(same->bytes.data() - file->bytes().data());
    EXPECT_EQ(offset % *SafetensorsElementBytes(tensor.type), 0u) << tensor.name;
  }
  const std::string again = folder.path() + "/again";
  ASSERT_TRUE(WriteSafetensors(tensors, {{"key", "line\nbreak"}}, again).ok());
  const auto second = MappedFile::Open(again);
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(std::ranges::equal(file->bytes(), second->bytes()));
}

TEST(SafetensorsWriter, NothingAtAllIsAFileToo) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a.safetensors";
  ASSERT_TRUE(WriteSafetensors({}, {}, path).ok());
  const auto file = MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto read = ReadSafetensors(file->bytes(), path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->tensors.empty());
}

}  // namespace
}  // namespace thermocline
