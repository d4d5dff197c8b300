// The corpus reader: windows, places to go on from, and what is refused.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/corpus.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/mapped_file.h"
#include "tests/support/puppet_tokenizer.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

constexpr char kDemo[] = THERMOCLINE_SOURCE_DIR "/models/demo";

using testing::PuppetTokenizer;
using Windows = std::vector<std::vector<TokenId>>;

struct Read {
  Windows windows;
  std::vector<CorpusPosition> positions;  // before the first window, then behind each
};

absl::StatusOr<Read> ReadAll(const std::string& path, const Tokenizer& tokenizer, int64_t text_tokens,
                             const CorpusPosition& from = {}) {
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Corpus> corpus, Corpus::Open(path, tokenizer, text_tokens, from));
  Read read;
  int64_t last_read_bytes = 0;
  while (true) {
    read.positions.push_back(corpus->position());
    EXPECT_GE(corpus->read_bytes(), last_read_bytes);
    last_read_bytes = corpus->read_bytes();
    TC_ASSIGN_OR_RETURN(const std::span<const TokenId> window, corpus->NextWindow());
    if (window.empty()) break;
    EXPECT_LE(static_cast<int64_t>(window.size()), text_tokens);
    read.windows.emplace_back(window.begin(), window.end());
  }
  EXPECT_EQ(corpus->read_bytes(), corpus->position().size_bytes);
  return read;
}

std::vector<std::string> Texts(const Windows& windows) {
  const PuppetTokenizer tokenizer;
  std::vector<std::string> texts;
  for (const auto& window : windows) texts.push_back(*tokenizer.Decode(window));
  return texts;
}

std::string Joined(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) joined += text;
  return joined;
}

absl::Status Refusal(const std::string& path) { return ReadAll(path, PuppetTokenizer(), 8).status(); }

TEST(Corpus, WindowsHoldTheTextInOrder) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a.txt", "abcdefghij\nklm\xC3\xA9");
  EXPECT_EQ(Texts(ReadAll(path, PuppetTokenizer(), 6)->windows),
            (std::vector<std::string>{"abcdef", "ghij\nk", "lm\xC3\xA9"}));
  EXPECT_EQ(Texts(ReadAll(path, PuppetTokenizer(), 100)->windows),
            (std::vector<std::string>{"abcdefghij\nklm\xC3\xA9"}));
}

TEST(Corpus, WindowsRunAcrossPieces) {
  const TemporaryFolder folder;
  std::string text;  // lines, a stretch without line breaks, one without spaces of two-byte code points
  for (int i = 0; text.size() < 150000; ++i) text += fmt::format("Line {} of many.\n\n", i);
  while (text.size() < 300000) text += "no line break here ";
  while (text.size() < 450000) text += "\xC3\xA9";
  const std::string path = folder.Write("a.txt", text);
  const Read read = *ReadAll(path, PuppetTokenizer(), 1000);
  EXPECT_EQ(Joined(Texts(read.windows)), text);
  for (size_t w = 0; w + 1 < read.windows.size(); ++w) EXPECT_EQ(read.windows[w].size(), 1000u) << w;
}

TEST(Corpus, EveryLineOfJsonlIsADocument) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a.jsonl",
                                        "{\"text\": \"abcdefghij\", \"id\": 5}\r\n"
                                        "\n"
                                        "{\"text\": \"\"}\n"
                                        "{\"id\": 6, \"text\": \"a\\u00e9\\n\"}\n"
                                        "  \n"
                                        "{\"text\": \"abcdef\"}");
  EXPECT_EQ(Texts(ReadAll(path, PuppetTokenizer(), 6)->windows),
            (std::vector<std::string>{"abcdef", "ghij", "a\xC3\xA9\n", "abcdef"}));
}

TEST(Corpus, AByteOrderMarkIsNoText) {
  const TemporaryFolder folder;
  EXPECT_EQ(Texts(ReadAll(folder.Write("a.txt",
                                       "\xEF\xBB\xBF"
                                       "abc"),
                          PuppetTokenizer(), 2)
                      ->windows),
            (std::vector<std::string>{"ab", "c"}));
  EXPECT_EQ(
      Texts(
          ReadAll(folder.Write("a.jsonl", "\xEF\xBB\xBF{\"text\":\"abc\"}"), PuppetTokenizer(), 9)->windows),
      (std::vector<std::string>{"abc"}));
}

// From the place behind each window come exactly the windows that an unbroken reading gives.
void ExpectResumable(const std::string& path, const Tokenizer& tokenizer, int64_t text_tokens,
                     size_t stride) {
  const Read whole = *ReadAll(path, tokenizer, text_tokens);
  ASSERT_GT(whole.windows.size(), 2 * stride);
  for (size_t w = 0; w < whole.positions.size(); w += stride) {
    ASSERT_EQ(whole.positions[w].windows, static_cast<int64_t>(w));
    const auto rest = ReadAll(path, tokenizer, text_tokens, whole.positions[w]);
    ASSERT_TRUE(rest.ok()) << rest.status();
    ASSERT_EQ(rest->windows, Windows(whole.windows.begin() + static_cast<ptrdiff_t>(w), whole.windows.end()))
        << w;
    ASSERT_EQ(rest->positions.back(), whole.positions.back());
  }
}

TEST(Corpus, GoesOnAnywhereInATextWithASentencePieceTokenizer) {
  const auto tokenizer = *CreateTokenizerFromFolder(kDemo);
  ExpectResumable(std::string(kDemo) + "/valid.txt", *tokenizer, 511, 17);
}

TEST(Corpus, GoesOnAnywhereInATextWithAByteLevelTokenizer) {
  const auto tokenizer =
      *CreateTokenizerFromFolder(THERMOCLINE_SOURCE_DIR "/tests/support/golden/tokenizer/qwen2");
  ExpectResumable(std::string(kDemo) + "/valid.txt", *tokenizer, 1000, 41);
}

TEST(Corpus, GoesOnBehindEveryWindowOfJsonl) {
  const TemporaryFolder folder;
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += fmt::format("{{\"text\": \"{}\\n\"}}\n\n", std::string(static_cast<size_t>(i), 'x'));
  ExpectResumable(folder.Write("b.jsonl", lines), PuppetTokenizer(), 5, 1);
  lines += "{\"text\": \"" + std::string(150000, 'y') + "\"}\n";  // several pieces
  ExpectResumable(folder.Write("a.jsonl", lines), PuppetTokenizer(), 7000, 1);
}

TEST(Corpus, EmptyAndMissingFilesAreRefused) {
  const TemporaryFolder folder;
  const std::string empty = folder.Write("a.txt", "");
  ExpectRefusal(Refusal(empty), {empty, "empty"});
  ExpectRefusal(Refusal(folder.path() + "/none"), {folder.path() + "/none", "no such file"});
  ExpectRefusal(Refusal(folder.path()), {folder.path(), "not a regular file"});
}

std::string Utf16(std::string_view ascii, bool big_endian) {
  std::string wide;
  for (const char c : ascii) wide += big_endian ? std::string{'\0', c} : std::string{c, '\0'};
  return wide;
}

TEST(Corpus, OtherEncodingsAreRefusedAtTheirFirstByte) {
  struct Case {
    std::string name, bytes, byte;
    size_t offset;
  };
  const std::string pieces(100000, 'x');  // the fault is not in the first piece
  const std::vector<Case> table = {
      {"UTF-16 LE with mark", "\xFF\xFE" + Utf16("Hello", false), "0xff", 0},
      {"UTF-16 BE with mark", "\xFE\xFF" + Utf16("Hello", true), "0xfe", 0},
      {"UTF-16 LE", Utf16("Hello", false), "0x00", 1},
      {"UTF-16 BE", Utf16("Hello", true), "0x00", 0},
      {"UTF-32 LE", std::string("H\0\0\0e\0\0\0", 8), "0x00", 1},
      {"Latin-1", "Caf\xE9 au lait", "0xe9", 3},
      {"Latin-1 at the end", "Caf\xE9", "0xe9", 3},
      {"Shift-JIS", "\x82\xB1\x82\xF1", "0x82", 0},
      {"overlong", "a\xC0\xAF", "0xc0", 1},
      {"surrogate", "a\xED\xA0\x80", "0xed", 1},
      {"above U+10FFFF", "a\xF4\x90\x80\x80", "0xf4", 1},
      {"cut short", "abc\xE2\x82", "0xe2", 3},
      {"late", pieces + "\xE9" + pieces, "0xe9", pieces.size()},
      {"binary", "abc" + std::string(70000, '\x80'), "0x80", 3},
  };
  const TemporaryFolder folder;
  for (const Case& c : table) {
    SCOPED_TRACE(c.name);
    for (const std::string name : {"a.txt", "a.jsonl"}) {
      if (name == "a.jsonl" && c.name == "late") continue;
      const std::string path = folder.Write(name, c.bytes);
      ExpectRefusal(Refusal(path), {path, c.byte, fmt::format("offset {} ", c.offset), "UTF-8"});
    }
  }
}

TEST(Corpus, MalformedLinesAreNamedByTheirNumber) {
  const TemporaryFolder folder;
  const std::string good = "{\"text\": \"abc\"}\n\n{\"text\": \"defgh\"}\n";
  struct Case {
    std::string line, word;
  };
  const std::vector<Case> table = {
      {"{\"text\": \"abc\"", "not valid JSON"},
      {"abc", "not valid JSON"},
      {"{\"text\": \"a\"} {\"text\": \"b\"}", "not valid JSON"},
      {"{\"text\": \"\\ud800\"}", "not valid JSON"},
      {"[\"abc\"]", "must be an object"},
      {"\"abc\"", "must be an object"},
      {"{\"Text\": \"abc\"}", "'text' is missing"},
      {"{\"text\": 5}", "must be a string, found number"},
      {"{\"text\": null}", "must be a string, found null"},
      {"{\"text\": [\"abc\"]}", "must be a string, found array"},
      {"{\"text\": \"a\", \"text\": \"b\"}", "twice"},
      {"{\"text\": \"\\u0001\"}", "0x01"},  // what this tokenizer cannot spell
  };
  for (const Case& c : table) {
    SCOPED_TRACE(c.line);
    const std::string path = folder.Write("a.jsonl", good + c.line + "\n" + good);
    ExpectRefusal(Refusal(path), {path + ": line 4", c.word});
    // What comes before is given out, and the place stays behind it.
    const PuppetTokenizer tokenizer;
    const auto corpus = *Corpus::Open(path, tokenizer, 8, {});
    EXPECT_EQ((*corpus->NextWindow()).size(), 3u);
    EXPECT_EQ((*corpus->NextWindow()).size(), 5u);
    const CorpusPosition before = corpus->position();
    EXPECT_FALSE(corpus->NextWindow().ok());
    EXPECT_EQ(corpus->position(), before);
    // Going on there names the same line.
    ExpectRefusal(ReadAll(path, tokenizer, 8, before).status(), {path + ": line 4", c.word});
  }
}

TEST(Corpus, WhatTheTokenizerCannotSpellIsNamedByItsPiece) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a.txt",
                                        "ab\x01"
                                        "c");
  ExpectRefusal(Refusal(path), {path, "byte 0", "0x01"});
}

TEST(Corpus, AnotherFileIsNotGoneOnWith) {
  const TemporaryFolder folder;
  const std::string path = folder.Write("a.txt", "abcdefghijkl");
  const CorpusPosition place = ReadAll(path, PuppetTokenizer(), 5)->positions[1];
  const auto refusal = [&](const std::string& other) {
    const absl::Status status = ReadAll(other, PuppetTokenizer(), 5, place).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    return status;
  };
  ExpectRefusal(refusal(folder.Write("b.txt", "abcdefghijkl")), {"b.txt", "a.txt"});
  ExpectRefusal(refusal(folder.Write("a.txt", "abcdefghijklm")), {"12 bytes", "13 bytes"});
  // The same name and size, but fewer tokens than are to be skipped.
  CorpusPosition skips = place;
  skips.size_bytes = 13;
  skips.consumed_tokens = 14;
  ExpectRefusal(ReadAll(path, PuppetTokenizer(), 5, skips).status(), {"14 tokens", "13"});
}

}  // namespace
}  // namespace thermocline
