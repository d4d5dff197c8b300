// Mapping of files, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "core/mapped_file.h"
#include "tests/support/temporary_folder.h"

#include <gtest/gtest.h>


namespace thermocline {
namespace {

TEST(MappedFile, HoldsTheBytes) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("mapped", std::string_view("a\0b", 3));
  MappedFile file = *MappedFile::Open(path);
  ASSERT_EQ(file.bytes().size(), 3u);
  EXPECT_EQ(file.bytes()[2], std::byte{'b'});
  MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().size(), 3u);
  EXPECT_EQ(*ReadTextFile(path, 3), std::string("a\0b", 3));
}

TEST(MappedFile, HoldsTheBytesAfterTheirMemoryWasGivenBack) {
  const TemporaryFolder folder;
  const std::string text(100000, 'x');
  const MappedFile file = *MappedFile::Open(folder.Write("mapped", text));
  EXPECT_EQ(file.bytes().back(), std::byte{'x'});
  file.Release();
  EXPECT_EQ(Sha256Hex(file.bytes()), Sha256Hex(std::as_bytes(std::span(text))));
  MappedFile().Release();
}

TEST(MappedFile, RefusalsNameThePath) {
  const TemporaryFolder temporary;
  const std::string& folder = temporary.path();
  EXPECT_EQ(MappedFile::Open(temporary.Path("absent")).status(), NotFound("{}/absent: no such file", folder));
  EXPECT_EQ(MappedFile::Open(folder).status(), InvalidArgument("{}: not a regular file", folder));
  const std::string empty = temporary.Write("empty", "");
  EXPECT_EQ(MappedFile::Open(empty).status(), InvalidArgument("{}: the file is empty", empty));
  const std::string large = temporary.Write("large", "12345");
  EXPECT_EQ(ReadTextFile(large, 4).status(), ResourceExhausted("{}: 5 bytes, the limit is 4", large));
}

TEST(Sha256, KnownVector) {
  const std::string text = "abc";
  EXPECT_EQ(Sha256Hex(std::as_bytes(std::span(text))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace thermocline
