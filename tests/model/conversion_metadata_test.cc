// The tokenizer's keys of converted files give the tokens of the folder's own tokenizer.
// SPDX-License-Identifier: Apache-2.0
#include "model/conversion_metadata.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "model/printable.h"
#include "tests/support/refusal.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

const std::string kFixtures = THERMOCLINE_SOURCE_DIR "/tests/support/golden/tokenizer/";

// The keys alone, as a file.
std::string Keys(const FolderTokenizer& tokenizer, int64_t n_vocab) {
  GgufHeader header;
  const absl::Status added = AddTokenizerKeys(tokenizer, n_vocab, header);
  EXPECT_TRUE(added.ok()) << added;
  return header.Bytes();
}

class ConvertedTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(ConvertedTokenizer, GivesTheSameTokens) {
  const std::string name = GetParam();
  const std::string folder = name == "demo" ? THERMOCLINE_SOURCE_DIR "/models/demo" : kFixtures + name;
  auto tokenizer = ReadFolderTokenizer(folder, /*scores_first=*/true);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto size = std::ssize(tokenizer->parts.vocabulary.texts);
  const std::string bytes = Keys(*tokenizer, size + 3);
  const GgufFile gguf = *GgufFile::Parse(std::as_bytes(std::span(bytes)), "keys");
  const auto ours = CreateTokenizer(gguf.metadata);
  ASSERT_TRUE(ours.ok()) << ours.status();
  const auto theirs = *CreateFromParts(std::move(tokenizer->parts));
  EXPECT_EQ((*ours)->vocabulary_size(), size + 3);  // what the model's embedding has besides is unused
  EXPECT_EQ((*ours)->bos(), theirs->bos());
  EXPECT_EQ((*ours)->adds_bos(), theirs->adds_bos());
  // Without a name for the end, GGUF's is "</s>" of id 2.
  EXPECT_THAT((*ours)->end_tokens(), testing::IsSupersetOf(theirs->end_tokens()));
  const auto golden = nlohmann::json::parse(std::ifstream(kFixtures + "golden.json"));
  int compared = 0;
  for (const auto& json : golden["texts"]) {
    const auto text = json.get<std::string>();
    // GGUF puts a space in front of every text; these two do not where there is one.
    const bool own_space = text.starts_with(' ') || text.starts_with("\u2581");
    if (own_space && (name == "first" || name == "prepend")) continue;
    const auto expected = theirs->Encode(text, {.parse_special = false});
    const auto found = (*ours)->Encode(text, {.parse_special = false});
    ASSERT_EQ(found.ok(), expected.ok()) << Printable(text);
    if (!found.ok()) continue;
    EXPECT_EQ(*found, *expected) << Printable(text);
    ++compared;
  }
  EXPECT_GT(compared, 60);
}

INSTANTIATE_TEST_SUITE_P(All, ConvertedTokenizer,
                         ::testing::Values("demo", "extras", "first", "prepend", "llama3", "qwen2"),
                         [](const auto& test) { return std::string(test.param); });

TEST(AddTokenizerKeys, RefusesPreTokenizersWithoutAName) {
  FolderTokenizer tokenizer;
  tokenizer.parts.vocabulary.source = "tokenizer.json";
  tokenizer.parts.options = ByteLevelOptions{.patterns = {"\\p{L}+"}};
  GgufHeader header;
  ExpectRefusal(AddTokenizerKeys(tokenizer, 1, header), {"tokenizer.json", "no name", "SmolLM2"});
}

TEST(AddTokenizerKeys, RefusesMergesThatNoScoresCanSay) {
  FolderTokenizer tokenizer;
  Vocabulary& vocabulary = tokenizer.parts.vocabulary;
  vocabulary.texts = {"a", "b", "ab", "aba", "ba"};
  vocabulary.types.resize(5, TokenType::kNormal);
  SentencePieceOptions options;
  options.merges = {{"ab", "a"}, {"a", "b"}, {"a", "ba"}};
  tokenizer.parts.options = options;
  GgufHeader header;
  ExpectRefusal(AddTokenizerKeys(tokenizer, 5, header), {"\"aba\"", "not in a row"});
}

TEST(AddTokenizerKeys, NamesEveryEnd) {
  FolderTokenizer tokenizer;
  Vocabulary& vocabulary = tokenizer.parts.vocabulary;
  vocabulary.texts = {"<unk>", "<s>", "</s>", "<stop>", "<|im_end|>"};
  vocabulary.types = {TokenType::kUnknown, TokenType::kControl, TokenType::kControl, TokenType::kControl,
                      TokenType::kControl};
  vocabulary.bos = 1;
  vocabulary.end_tokens = {3, 4, 2};
  tokenizer.hints.eos_token = "</s>";
  tokenizer.hints.pad_id = 0;
  SentencePieceOptions options;
  options.scores.resize(5);
  tokenizer.parts.options = options;
  const std::string bytes = Keys(tokenizer, 5);
  const GgufFile gguf = *GgufFile::Parse(std::as_bytes(std::span(bytes)), "keys");
  const auto id = [&](const std::string& name) { return *gguf.metadata.Uint("tokenizer.ggml." + name); };
  EXPECT_EQ(id("unknown_token_id"), 0u);
  EXPECT_EQ(id("bos_token_id"), 1u);
  EXPECT_EQ(id("eos_token_id"), 2u);
  EXPECT_EQ(id("eot_token_id"), 3u);  // the last one is found by its spelling
  EXPECT_FALSE(gguf.metadata.Has("tokenizer.ggml.eom_token_id"));
  EXPECT_EQ(id("padding_token_id"), 0u);
}

}  // namespace
}  // namespace thermocline
