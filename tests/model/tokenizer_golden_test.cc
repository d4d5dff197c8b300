// Ids of every golden text against sentencepiece and tokenizers.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "model/printable.h"
#include "tests/model/tokenizer_testing.h"

namespace thermocline {
namespace {

using testing::HasSubstr;
using Ids = std::vector<TokenId>;

// `list` is "plain" or "special".
void ExpectGolden(const Tokenizer& tokenizer, const std::string& name, const std::string& list) {
  const nlohmann::json& texts = Golden()["texts"];
  const nlohmann::json& expected = Golden()["expected"][name][list];
  ASSERT_EQ(texts.size(), expected.size());
  ASSERT_GT(texts.size(), 80u);
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto text = texts[i].get<std::string>();
    const auto ids = tokenizer.Encode(text, {.add_bos = false, .parse_special = list == "special"});
    if (expected[i].is_null()) {
      EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument) << Printable(text);
      EXPECT_THAT(std::string(ids.status().message()), HasSubstr("spelt by no token"));
      continue;
    }
    ASSERT_TRUE(ids.ok()) << ids.status() << " in text " << i << ": " << Printable(text);
    EXPECT_EQ(*ids, expected[i].get<Ids>()) << "text " << i << ": " << Printable(text);
  }
}

// What the texts come back as, by the library.
void ExpectDecoded(const Tokenizer& tokenizer, const std::string& name) {
  const nlohmann::json& expected = Golden()["expected"][name];
  for (size_t i = 0; i < expected["plain"].size(); ++i) {
    const auto decoded = tokenizer.Decode(expected["plain"][i].get<Ids>());
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, expected["decoded"][i].get<std::string>()) << "text " << i;
  }
}

TEST(TokenizerGolden, DemoModel) {
  const auto tokenizer = Fixture("demo");
  ExpectGolden(*tokenizer, "demo", "plain");
  ExpectDecoded(*tokenizer, "demo");
  EXPECT_EQ(tokenizer->kind(), "sentencepiece-bpe");
  EXPECT_EQ(tokenizer->vocabulary_size(), 4096);
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->end_tokens(), Ids{2});
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_TRUE(tokenizer->strips_leading_space());
}

// The prompts and their ids that the model itself was checked with.
TEST(TokenizerGolden, DemoModelPrompts) {
  const auto tokenizer = Fixture("demo");
  const nlohmann::json golden = ReadJson(DemoFolder() + "/golden.json");
  size_t prompts = 0;
  for (const auto& prompt : golden["cases"]) {
    const auto ids = tokenizer->Encode(prompt["prompt"].get<std::string>(), {});
    ASSERT_TRUE(ids.ok()) << ids.status();
    EXPECT_EQ(*ids, prompt["prompt_ids"].get<Ids>());
    ++prompts;
  }
  EXPECT_GT(prompts, 0u);
}

TEST(TokenizerGolden, UserDefinedUnusedAndTrimmedSpaces) {
  const auto tokenizer = Fixture("extras");
  ExpectGolden(*tokenizer, "extras", "plain");
  ExpectDecoded(*tokenizer, "extras");
}

TEST(TokenizerGolden, LlamaGguf) {
  const auto metadata = LlamaMetadata(DemoFolder() + "/tokenizer.model");
  const auto tokenizer = CreateTokenizer(metadata->get());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGolden(**tokenizer, "demo", "plain");
  EXPECT_EQ((*tokenizer)->bos(), 1);
  EXPECT_EQ((*tokenizer)->end_tokens(), Ids{2});
  EXPECT_TRUE((*tokenizer)->adds_bos());
}

TEST(TokenizerGolden, LlamaGgufWithExtraSpacesRemoved) {
  const auto metadata = LlamaMetadata(FixturePath("extras/tokenizer.model"));
  metadata->Set("remove_extra_whitespaces", true);
  const auto tokenizer = CreateTokenizer(metadata->get());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGolden(**tokenizer, "extras", "plain");
}

class HuggingFaceForm : public testing::TestWithParam<const char*> {};

TEST_P(HuggingFaceForm, MatchesTokenizers) {
  const auto tokenizer = Fixture(GetParam());
  ExpectGolden(*tokenizer, GetParam(), "plain");
  ExpectGolden(*tokenizer, GetParam(), "special");
  const auto with_bos = tokenizer->Encode("Hello", {});
  ASSERT_TRUE(with_bos.ok()) << with_bos.status();
  EXPECT_EQ(*with_bos, Golden()["expected"][GetParam()]["bos"].get<Ids>());
}

INSTANTIATE_TEST_SUITE_P(All, HuggingFaceForm, testing::Values("llama3", "qwen2", "prepend", "first"),
                         [](const auto& param) { return std::string(param.param); });

TEST(TokenizerGolden, Llama3Gguf) {
  for (const char* pre : {"llama-bpe", "llama3", "llama-v3"}) {
    const auto metadata = ByteLevelMetadata("llama3", pre);
    const auto begin = (*Fixture("llama3")).bos();
    metadata->Set("bos_token_id", static_cast<uint64_t>(*begin));
    const auto tokenizer = CreateTokenizer(metadata->get());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    ExpectGolden(**tokenizer, "llama3", "plain");
    ExpectGolden(**tokenizer, "llama3", "special");
    EXPECT_TRUE((*tokenizer)->adds_bos());
    EXPECT_EQ((*tokenizer)->kind(), "byte-level-bpe");
  }
}

TEST(TokenizerGolden, Qwen2Gguf) {
  const auto metadata = ByteLevelMetadata("qwen2", "qwen2");
  const auto tokenizer = CreateTokenizer(metadata->get());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGolden(**tokenizer, "qwen2", "plain");
  EXPECT_FALSE((*tokenizer)->adds_bos());
}

TEST(TokenizerGolden, SmolLm2Gguf) {
  std::string reason;
  const auto tokenizer = SmolLm2(reason);
  if (tokenizer == nullptr) GTEST_SKIP() << reason;
  ExpectGolden(*tokenizer, "smollm2", "plain");
  ExpectGolden(*tokenizer, "smollm2", "special");
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->end_tokens(), (Ids{2, 0}));  // <|im_end|>, then <|endoftext|> by its spelling
}

}  // namespace
}  // namespace thermocline
