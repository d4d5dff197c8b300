// Whole-file replacement: old or new, never half, and nothing left beside it.
// SPDX-License-Identifier: Apache-2.0
#include "core/replace_file.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "core/mapped_file.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

size_t FilesIn(const std::string& folder) {
  const std::filesystem::directory_iterator files(folder);
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

TEST(ReplaceFile, WritesANewFileAndReplacesAnOldOne) {
  const TemporaryFolder folder;
  const std::string path = folder.path() + "/a";
  const std::string large(3 << 20, 'x');
  ASSERT_TRUE(ReplaceFile(path, large).ok());
  EXPECT_EQ(*ReadTextFile(path, 1 << 30), large);
  ASSERT_TRUE(ReplaceFile(path, std::string("a\0b", 3)).ok());
  EXPECT_EQ(*ReadTextFile(path, 1 << 30), std::string("a\0b", 3));
  EXPECT_EQ(FilesIn(folder.path()), 1u);
}

TEST(ReplaceFile, FailureNamesThePathAndLeavesNothingBehind) {
  const TemporaryFolder folder;
  const std::string missing = folder.path() + "/no/such/folder";
  ExpectRefusal(ReplaceFile(missing, "x"), {missing, "No such file"});
  // The rename fails: a folder is in the way.
  const std::string occupied = folder.path() + "/occupied";
  std::filesystem::create_directories(occupied + "/inside");
  ExpectRefusal(ReplaceFile(occupied, "x"), {occupied});
  EXPECT_TRUE(std::filesystem::is_directory(occupied + "/inside"));
  EXPECT_EQ(FilesIn(folder.path()), 1u);
}

TEST(FileReplacement, GathersWritesAndReplacesAtOnce) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a", "old");
  {
    auto file = FileReplacement::Create(path);
    ASSERT_TRUE(file.ok()) << file.status();
    FileReplacement moved = *std::move(file);
    ASSERT_TRUE(moved.Write("ne").ok());
    ASSERT_TRUE(moved.Write("w").ok());
    EXPECT_EQ(*ReadTextFile(path, 1 << 30), "old");
    ASSERT_TRUE(moved.Commit().ok());
  }
  EXPECT_EQ(*ReadTextFile(path, 1 << 30), "new");
  EXPECT_EQ(FilesIn(folder.path()), 1u);
}

TEST(FileReplacement, LeavesTheOldFileWithoutACommit) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a", "old");
  {
    auto file = FileReplacement::Create(path);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->Write("half of the new").ok());
  }
  EXPECT_EQ(*ReadTextFile(path, 1 << 30), "old");
  EXPECT_EQ(FilesIn(folder.path()), 1u);
}

TEST(FileReplacement, GoesOnWithWhatAnEarlierOneLeft) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a", "old");
  {
    auto file = FileReplacement::Resume(path, 0);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->Write("whole and half").ok());
    ASSERT_TRUE(file->Sync().ok());
    EXPECT_EQ(file->partial_path(), path + ".partial");
    ExpectRefusal(FileReplacement::Resume(path, 0).status(), {path + ".partial", "another process"});
  }
  EXPECT_EQ(*ReadTextFile(path, 1 << 30), "old");
  ExpectRefusal(FileReplacement::Resume(path, 15).status(), {path + ".partial", "14 bytes", "at least 15"});
  {
    auto file = FileReplacement::Resume(path, 10);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->Write("whole").ok());
    ASSERT_TRUE(file->Commit().ok());
  }
  EXPECT_EQ(*ReadTextFile(path, 1 << 30), "whole and whole");
  EXPECT_EQ(FilesIn(folder.path()), 1u);
}

}  // namespace
}  // namespace thermocline
