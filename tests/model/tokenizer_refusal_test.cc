// What tokenizer files may not say: every refusal names the file, the field and the limit.
// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <bit>
#include <cmath>
#include <functional>
#include <random>

#include "tests/model/tokenizer_testing.h"
#include "tests/support/temporary_folder.h"

namespace thermocline {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

void ExpectRefused(const absl::Status& status, absl::StatusCode code, const std::string& file,
                   const std::string& what) {
  EXPECT_EQ(status.code(), code) << status;
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(file), HasSubstr(what), Not(HasSubstr("\n"))));
}

// ---- tokenizer.json ----

struct JsonCase {
  const char* name;
  const char* fixture;
  std::function<void(json&)> change;
  absl::StatusCode code;
  const char* message;
};

class TokenizerJsonRefusal : public testing::TestWithParam<JsonCase> {};

TEST_P(TokenizerJsonRefusal, IsNamed) {
  json document = ReadJson(FixturePath(GetParam().fixture) + "/tokenizer.json");
  GetParam().change(document);
  const TemporaryFolder folder;
  folder.Write("tokenizer.json", document.dump());
  ExpectRefused(CreateTokenizerFromFolder(folder.path()).status(), GetParam().code, "tokenizer.json",
                GetParam().message);
}

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kUnknown = absl::StatusCode::kUnimplemented;

const JsonCase kJsonCases[] = {
    {"NoModel", "llama3", [](json& d) { d.erase("model"); }, kInvalid, "model must be an object"},
    {"WordPiece", "llama3", [](json& d) { d["model"]["type"] = "WordPiece"; }, kUnknown, "WordPiece"},
    {"Unigram", "prepend", [](json& d) { d["model"]["type"] = "Unigram"; }, kUnknown, "Unigram"},
    {"Dropout", "llama3", [](json& d) { d["model"]["dropout"] = 0.1; }, kUnknown, "dropout"},
    {"WordSuffix", "llama3", [](json& d) { d["model"]["end_of_word_suffix"] = "</w>"; }, kUnknown,
     "end_of_word_suffix"},
    {"IgnoreMerges", "prepend", [](json& d) { d["model"]["ignore_merges"] = true; }, kUnknown,
     "ignore_merges"},
    {"Nfkc", "llama3",
     [](json& d) {
       d["normalizer"] = {{"type", "NFKC"}};
     },
     kUnknown, "normalizer \"NFKC\""},
    {"NfkcInSequence", "prepend",
     [](json& d) {
       d["normalizer"]["normalizers"].push_back({{"type", "NFKC"}});
     },
     kUnknown, "normalizer \"NFKC\""},
    {"OtherPrepend", "prepend", [](json& d) { d["normalizer"]["normalizers"][0]["prepend"] = "x"; }, kUnknown,
     "normalizer \"Prepend\""},
    {"Whitespace", "llama3",
     [](json& d) {
       d["pre_tokenizer"] = {{"type", "Whitespace"}};
     },
     kUnknown, "pre_tokenizer \"Whitespace\""},
    {"TypelessStage", "llama3", [](json& d) { d["pre_tokenizer"] = 7; }, kUnknown,
     "pre_tokenizer without a type"},
    {"NoStages", "llama3", [](json& d) { d["pre_tokenizer"] = nullptr; }, kUnknown, "neither"},
    {"SplitAlone", "llama3", [](json& d) { d["pre_tokenizer"]["pretokenizers"].erase(1); }, kUnknown,
     "without ByteLevel"},
    {"SplitRemoved", "llama3",
     [](json& d) { d["pre_tokenizer"]["pretokenizers"][0]["behavior"] = "Removed"; }, kUnknown, "behavior"},
    {"SplitInverted", "llama3", [](json& d) { d["pre_tokenizer"]["pretokenizers"][0]["invert"] = true; },
     kUnknown, "invert"},
    {"BadRegex", "llama3", [](json& d) { d["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a"; },
     kInvalid, "(a"},
    {"PrefixSpace", "llama3",
     [](json& d) { d["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true; }, kUnknown,
     "add_prefix_space"},
    {"MetaspaceSplit", "first", [](json& d) { d["pre_tokenizer"]["split"] = true; }, kUnknown, "split"},
    {"MetaspaceScheme", "first", [](json& d) { d["pre_tokenizer"]["prepend_scheme"] = "last"; }, kUnknown,
     "prepend_scheme"},
    {"PostProcessor", "prepend",
     [](json& d) {
       d["post_processor"] = {{"type", "BertProcessing"}};
     },
     kUnknown, "BertProcessing"},
    {"AppendedEos", "prepend",
     [](json& d) {
       d["post_processor"]["single"].push_back({{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}});
     },
     kUnknown, "TemplateProcessing"},
    {"TemplateId", "prepend",
     [](json& d) { d["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 1 << 20; }, kInvalid, "BOS id"},
    {"Decoder", "llama3",
     [](json& d) {
       d["decoder"] = {{"type", "WordPiece"}};
     },
     kUnknown, "decoder \"WordPiece\""},
    {"VocabIsNoObject", "llama3", [](json& d) { d["model"]["vocab"] = json::array(); }, kInvalid, "vocab"},
    {"EmptyVocab", "prepend",
     [](json& d) {
       d["model"]["vocab"] = json::object();
       d["added_tokens"] = json::array();
       d["post_processor"] = nullptr;
     },
     kInvalid, "no tokens"},
    {"NegativeId", "llama3", [](json& d) { d["model"]["vocab"]["x"] = -1; }, kInvalid, "-1"},
    {"HugeId", "llama3", [](json& d) { d["model"]["vocab"]["x"] = 18446744073709551615u; }, kInvalid,
     "18446744073709551615"},
    {"IdOverLimit", "llama3", [](json& d) { d["model"]["vocab"]["x"] = kMaxVocabularySize; }, kInvalid,
     "2097152"},
    {"FractionalId", "llama3", [](json& d) { d["model"]["vocab"]["x"] = 1.5; }, kInvalid, "integer"},
    {"IdTwice", "llama3", [](json& d) { d["model"]["vocab"]["never seen"] = 0; }, kInvalid, "both"},
    {"LongToken", "llama3", [](json& d) { d["model"]["vocab"][std::string(5000, 'x')] = 5000; }, kInvalid,
     "5000 bytes long"},
    {"AddedIdClash", "llama3", [](json& d) { d["added_tokens"][0]["id"] = 3; }, kInvalid, "both"},
    {"AddedWithoutId", "llama3", [](json& d) { d["added_tokens"][0].erase("id"); }, kInvalid, "no id"},
    {"AddedEmpty", "llama3", [](json& d) { d["added_tokens"][0]["content"] = ""; }, kInvalid, "no content"},
    {"AddedSingleWord", "llama3", [](json& d) { d["added_tokens"][0]["single_word"] = true; }, kUnknown,
     "single_word"},
    {"MergesMissing", "llama3", [](json& d) { d["model"].erase("merges"); }, kInvalid, "merges"},
    {"MergeOfThree", "qwen2", [](json& d) { d["model"]["merges"][7] = "a b c"; }, kInvalid, "merge 7"},
    {"MergeOfOne", "qwen2", [](json& d) { d["model"]["merges"][7] = "ab"; }, kInvalid, "merge 7"},
    {"MergeOfNumbers", "llama3",
     [](json& d) {
       d["model"]["merges"][7] = {1, 2};
     },
     kInvalid, "merge 7"},
    {"MergeUnknownHalf", "llama3",
     [](json& d) {
       d["model"]["merges"][7] = {"zzzzqq", "a"};
     },
     kInvalid, "merge 7 names \"zzzzqq\""},
    {"MergeUnknownResult", "qwen2", [](json& d) { d["model"]["merges"][7] = "q z"; }, kInvalid,
     "merge 7 names \"qz\""},
};

INSTANTIATE_TEST_SUITE_P(All, TokenizerJsonRefusal, testing::ValuesIn(kJsonCases),
                         [](const auto& param) { return std::string(param.param.name); });

// Files of the first versions name no type of model.
TEST(TokenizerRefusal, AModelWithoutTypeIsBpe) {
  json document = ReadJson(FixturePath("qwen2/tokenizer.json"));
  document["model"].erase("type");
  const TemporaryFolder folder;
  folder.Write("tokenizer.json", document.dump());
  EXPECT_NE(FromFolder(folder.path()), nullptr);
}

TEST(TokenizerRefusal, MessagesStayOnOneLine) {
  json document = ReadJson(FixturePath("llama3/tokenizer.json"));
  document["model"]["merges"][0] = {"line\nbreak", "a"};
  const TemporaryFolder folder;
  folder.Write("tokenizer.json", document.dump());
  ExpectRefused(CreateTokenizerFromFolder(folder.path()).status(), kInvalid, "tokenizer.json",
                "line\\x0abreak");
}

TEST(TokenizerRefusal, MalformedJson) {
  const TemporaryFolder folder;
  folder.Write("tokenizer.json", "{\"model\": ");
  ExpectRefused(CreateTokenizerFromFolder(folder.path()).status(), kInvalid, "tokenizer.json", "JSON");
  folder.Write("tokenizer.json", std::string(100'000, '['));
  ExpectRefused(CreateTokenizerFromFolder(folder.path()).status(), kInvalid, "tokenizer.json", "");
  folder.Write("tokenizer.json", "{\"model\":" + std::string(100'000, '['));
  ExpectRefused(CreateTokenizerFromFolder(folder.path()).status(), kInvalid, "tokenizer.json", "64");
}

// Whatever is overwritten: an answer, never a crash.
TEST(TokenizerRefusal, DamagedJsonNeverCrashes) {
  const TemporaryFolder folder;
  std::mt19937 random(6);
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string damaged =
        ReadFile(FixturePath(round % 2 == 0 ? "qwen2/tokenizer.json" : "first/tokenizer.json"));
    // Half of the damage goes to the start, where all but vocabulary and merges is.
    const size_t reach = round % 4 < 2 ? 2000 : damaged.size();
    for (int i = 0; i < 2; ++i) damaged[random() % reach] = "\"{}[],:0-ex\\"[random() % 12];
    folder.Write("tokenizer.json", damaged);
    const auto tokenizer = CreateTokenizerFromFolder(folder.path());
    refused += !tokenizer.ok();
    if (tokenizer.ok()) (void)(*tokenizer)->Encode("hello world<longer>", {}).ok();
  }
  EXPECT_GT(refused, 50);
}

TEST(TokenizerRefusal, FolderWithoutTokenizer) {
  const TemporaryFolder folder;
  ExpectRefused(CreateTokenizerFromFolder(folder.path()).status(), absl::StatusCode::kNotFound, folder.path(),
                "tokenizer.model");
}

// A pattern of exponential cost ends with an error instead of never.
TEST(TokenizerRefusal, PatternThatBacktracksWithoutEnd) {
  json document = ReadJson(FixturePath("llama3/tokenizer.json"));
  document["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(?:(?:a|a)(?:a|a))+b";
  const TemporaryFolder folder;
  folder.Write("tokenizer.json", document.dump());
  const auto tokenizer = FromFolder(folder.path());
  ASSERT_NE(tokenizer, nullptr);
  const auto ids = tokenizer->Encode(std::string(200, 'a'), {});
  EXPECT_EQ(ids.status().code(), kInvalid);
  EXPECT_THAT(std::string(ids.status().message()), HasSubstr("(?:(?:a|a)(?:a|a))+b"));
}

// ---- the files beside tokenizer.json ----

class Folder : public testing::Test {
 protected:
  Folder() { folder_.Write("tokenizer.json", ReadFile(FixturePath("qwen2/tokenizer.json"))); }
  absl::StatusOr<std::unique_ptr<Tokenizer>> Open() const {
    return CreateTokenizerFromFolder(folder_.path());
  }
  TemporaryFolder folder_;
};

TEST_F(Folder, EndTokensOfAllFilesCount) {
  folder_.Write("config.json", R"({"eos_token_id": 5})");
  folder_.Write("generation_config.json", R"({"eos_token_id": [6, 5], "bos_token_id": 9})");
  folder_.Write("tokenizer_config.json", R"({"eos_token": {"content": "usertok"}, "add_bos_token": true})");
  const auto tokenizer = Open();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<std::string> texts;
  for (TokenId id : (*tokenizer)->end_tokens()) texts.emplace_back((*tokenizer)->TokenText(id));
  EXPECT_THAT(texts, testing::ElementsAre("usertok", (*tokenizer)->TokenText(5), (*tokenizer)->TokenText(6),
                                          "<|endoftext|>", "<|im_end|>"));
  EXPECT_EQ((*tokenizer)->bos(), 9);
  EXPECT_TRUE((*tokenizer)->adds_bos());
}

TEST_F(Folder, AddBosTokenFalseOverridesTheTemplate) {
  folder_.Write("tokenizer.json", ReadFile(FixturePath("prepend/tokenizer.json")));
  folder_.Write("tokenizer_config.json", R"({"add_bos_token": false})");
  const auto tokenizer = Open();
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_FALSE((*tokenizer)->adds_bos());
  EXPECT_EQ((*tokenizer)->bos(), 1);
}

TEST_F(Folder, RefusesWhatItCannotHonour) {
  folder_.Write("config.json", R"({"eos_token_id": 99999})");
  ExpectRefused(Open().status(), kInvalid, "tokenizer.json", "eos_token_id is 99999");
  folder_.Write("config.json", R"({"eos_token_id": "two"})");
  ExpectRefused(Open().status(), kInvalid, "config.json", "eos_token_id");
  folder_.Write("config.json", R"({"eos_token_id": [1, 18446744073709551615]})");
  ExpectRefused(Open().status(), kInvalid, "config.json", "eos_token_id");
  folder_.Write("config.json", R"({"bos_token_id": -1})");
  ExpectRefused(Open().status(), kInvalid, "tokenizer.json", "bos_token_id is -1");
  folder_.Write("config.json", "{}");
  folder_.Write("tokenizer_config.json", R"({"eos_token": "no such token"})");
  ExpectRefused(Open().status(), absl::StatusCode::kNotFound, "tokenizer.json", "no such token");
  folder_.Write("tokenizer_config.json", R"({"add_bos_token": true})");
  ExpectRefused(Open().status(), kInvalid, "tokenizer.json", "BOS");
  folder_.Write("tokenizer_config.json", R"({"add_bos_token": "yes"})");
  ExpectRefused(Open().status(), kInvalid, "tokenizer_config.json", "add_bos_token");
}

TEST(TokenizerFolder, AddedTokensBehindTokenizerModel) {
  const TemporaryFolder folder;
  folder.Write("tokenizer.model", ReadFile(DemoFolder() + "/tokenizer.model"));
  folder.Write("tokenizer_config.json", R"({"added_tokens_decoder": {
      "1": {"content": "<s>", "special": true},
      "4097": {"content": "<end_of_turn>", "special": true},
      "4096": {"content": "<start>", "special": false}}})");
  const auto tokenizer = FromFolder(folder.path());
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocabulary_size(), 4098);
  EXPECT_EQ(*tokenizer->Encode("<start><end_of_turn>", {.add_bos = false, .parse_special = true}),
            (std::vector<TokenId>{4096, 4097}));
  EXPECT_EQ(tokenizer->end_tokens(), (std::vector<TokenId>{2, 4097}));
  EXPECT_EQ(*tokenizer->Decode(std::vector<TokenId>{4096, 4097}), "<start>");
  for (const char* bad : {R"({"added_tokens_decoder": {"5": {"content": "<other>"}}})",
                          R"({"added_tokens_decoder": {"5000": {"content": "<gap>"}}})",
                          R"({"added_tokens_decoder": {"-1": {"content": "<x>"}}})",
                          R"({"added_tokens_decoder": {"4096x": {"content": "<x>"}}})"}) {
    folder.Write("tokenizer_config.json", bad);
    EXPECT_EQ(CreateTokenizerFromFolder(folder.path()).status().code(), kInvalid) << bad;
  }
}

// ---- tokenizer.model ----

// Protobuf's wire format, as far as the cases need it.
std::string Bytes(int field, std::string_view content) {
  std::string out(1, static_cast<char>(field << 3 | 2));
  size_t size = content.size();
  for (; size >= 0x80; size >>= 7) out += static_cast<char>(size | 0x80);
  out += static_cast<char>(size);
  return out.append(content);
}
std::string Number(int field, uint8_t value) {
  return {static_cast<char>(field << 3), static_cast<char>(value)};
}
std::string Piece(std::string_view text, float score = 0, uint8_t type = 1) {
  const auto bits = std::bit_cast<uint32_t>(score);
  std::string content = Bytes(1, text);
  content += static_cast<char>(2 << 3 | 5);
  content.append(reinterpret_cast<const char*>(&bits), 4);
  return Bytes(1, content + Number(3, type));
}
const std::string kBpeTrainer = Bytes(2, Number(3, 2));

absl::Status OpenModel(std::string_view bytes) {
  const TemporaryFolder folder;
  folder.Write("tokenizer.model", bytes);
  return CreateTokenizerFromFolder(folder.path()).status();
}

TEST(SentencePieceModelRefusal, UnknownKindsAreNamed) {
  ASSERT_TRUE(OpenModel(Piece("a") + kBpeTrainer).ok());
  ExpectRefused(OpenModel(Piece("a") + Bytes(2, Number(3, 1))), kUnknown, "tokenizer.model", "Unigram");
  ExpectRefused(OpenModel(Piece("a")), kUnknown, "tokenizer.model", "Unigram");
  ExpectRefused(OpenModel(Piece("a") + Bytes(2, Number(3, 9))), kUnknown, "tokenizer.model", "type 9");
  ExpectRefused(OpenModel(Piece("a") + kBpeTrainer + Bytes(3, Bytes(2, "map"))), kUnknown, "tokenizer.model",
                "precompiled_charsmap");
  ExpectRefused(OpenModel(Piece("a") + kBpeTrainer + Bytes(5, Bytes(2, "map"))), kUnknown, "tokenizer.model",
                "precompiled_charsmap");
  ExpectRefused(OpenModel(Piece("a") + kBpeTrainer + Bytes(3, Number(5, 0))), kUnknown, "tokenizer.model",
                "escape_whitespaces");
  const std::string suffix = {static_cast<char>(0xC0), 0x01, 0x01};  // field 24, a number, 1
  ExpectRefused(OpenModel(Piece("a") + Bytes(2, Number(3, 2) + suffix)), kUnknown, "tokenizer.model",
                "treat_whitespace_as_suffix");
}

TEST(SentencePieceModelRefusal, MalformedPieces) {
  ExpectRefused(OpenModel(kBpeTrainer), kInvalid, "tokenizer.model", "no tokens");
  ExpectRefused(OpenModel(kBpeTrainer + Piece("a") + Piece("a")), kInvalid, "tokenizer.model", "twice");
  ExpectRefused(OpenModel(kBpeTrainer + Piece("")), kInvalid, "tokenizer.model", "piece 0 is empty");
  ExpectRefused(OpenModel(kBpeTrainer + Piece("a", 0, 7)), kInvalid, "tokenizer.model", "type 7");
  ExpectRefused(OpenModel(kBpeTrainer + Piece("a", NAN)), kInvalid, "tokenizer.model", "not finite");
  ExpectRefused(OpenModel(kBpeTrainer + Piece("<0xZZ>", 0, 6)), kInvalid, "tokenizer.model", "<0xZZ>");
  ExpectRefused(OpenModel(kBpeTrainer + Piece(std::string(5000, 'a'))), kInvalid, "tokenizer.model", "4096");
  const std::string fallback = {static_cast<char>(0x98), 0x02, 0x01};  // field 35, a number, 1
  ExpectRefused(OpenModel(Bytes(2, Number(3, 2) + fallback) + Piece("a")), kInvalid, "tokenizer.model",
                "<0x00>");
}

// Whatever is cut off or overwritten: an answer, never a crash.
TEST(SentencePieceModelRefusal, DamagedFilesNeverCrash) {
  const std::string whole = ReadFile(FixturePath("extras/tokenizer.model"));
  int refused = 0;
  for (size_t size = 0; size < whole.size(); size += 97) {
    refused += !ParseSentencePieceModel(std::string_view(whole).substr(0, size), "cut").ok();
  }
  EXPECT_GT(refused, 50);
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 4; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    auto model = ParseSentencePieceModel(damaged, "damaged");
    if (!model.ok()) continue;
    const auto tokenizer = CreateSentencePieceBpe(std::move(model->vocabulary), model->options);
    if (tokenizer.ok()) (void)(*tokenizer)->Encode("hello world<sep>", {}).ok();
  }
}

TEST(SentencePieceModelRefusal, TextThatCannotBeSpelt) {
  const TemporaryFolder folder;
  folder.Write("tokenizer.model", kBpeTrainer + Piece("\u2581") + Piece("a"));
  const auto tokenizer = FromFolder(folder.path());
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_TRUE(tokenizer->Encode("a a", {}).ok());
  ExpectRefused(tokenizer->Encode("a b", {}).status(), kInvalid, "byte 0x62", "no token");
}

// ---- GGUF ----

struct GgufCase {
  const char* name;
  std::function<void(MetadataOf&)> fill;
  absl::StatusCode code;
  const char* message;
};

class TokenizerGgufRefusal : public testing::TestWithParam<GgufCase> {};

TEST_P(TokenizerGgufRefusal, IsNamed) {
  MetadataOf metadata("bad.gguf");
  GetParam().fill(metadata);
  ExpectRefused(CreateTokenizer(metadata.get()).status(), GetParam().code, "bad.gguf", GetParam().message);
}

void SmallLlama(MetadataOf& m, int64_t type = 3, size_t scores = 3) {
  m.Set("model", std::string_view("llama"));
  m.SetStrings("tokens", {"<unk>", "<s>", "a"});
  m.Set("token_type", std::vector<int64_t>{2, type, 1});
  m.Set("scores", std::vector<double>(scores, 0.0));
}

void SmallGpt2(MetadataOf& m, std::string_view pre, const std::vector<std::string>& merges = {"a b"}) {
  m.Set("model", std::string_view("gpt2"));
  m.Set("pre", pre);
  m.SetStrings("tokens", {"a", "b", "ab"});
  m.SetStrings("merges", merges);
}

const GgufCase kGgufCases[] = {
    {"NoModel", [](MetadataOf&) {}, absl::StatusCode::kNotFound, "tokenizer.ggml.model"},
    {"Bert", [](MetadataOf& m) { m.Set("model", std::string_view("bert")); }, kUnknown, "\"bert\""},
    {"NoTokens", [](MetadataOf& m) { m.Set("model", std::string_view("llama")); },
     absl::StatusCode::kNotFound, "tokenizer.ggml.tokens"},
    {"UnknownType", [](MetadataOf& m) { SmallLlama(m, 9); }, kInvalid, "token 1 has type 9"},
    {"FewScores", [](MetadataOf& m) { SmallLlama(m, 3, 2); }, kInvalid, "scores has 2 values for 3"},
    {"FewTypes",
     [](MetadataOf& m) {
       SmallGpt2(m, "qwen2");
       m.Set("token_type", std::vector<int64_t>{1});
     },
     kInvalid, "token_type has 1 values for 3"},
    {"BosOutOfRange",
     [](MetadataOf& m) {
       SmallLlama(m);
       m.Set("bos_token_id", uint64_t{3});
     },
     kInvalid, "bos_token_id is 3, which is not in [0, 3)"},
    {"EotOutOfRange",
     [](MetadataOf& m) {
       SmallLlama(m);
       m.Set("eot_token_id", uint64_t{1} << 40);
     },
     kInvalid, "eot_token_id"},
    {"BosWantedButNone",
     [](MetadataOf& m) {
       SmallGpt2(m, "qwen2");
       m.Set("add_bos_token", true);
     },
     kInvalid, "BOS"},
    {"EosAppended",
     [](MetadataOf& m) {
       SmallLlama(m);
       m.Set("add_eos_token", true);
     },
     kUnknown, "add_eos_token"},
    {"CharacterMap",
     [](MetadataOf& m) {
       SmallLlama(m);
       m.Set("precompiled_charsmap", std::vector<uint64_t>{1, 2});
     },
     kUnknown, "precompiled_charsmap"},
    {"PreTokenizer", [](MetadataOf& m) { SmallGpt2(m, "deepseek-llm"); }, kUnknown, "\"deepseek-llm\""},
    {"UnknownMerge",
     [](MetadataOf& m) {
       SmallGpt2(m, "gpt-2", {"a b", "b a"});
     },
     kInvalid, "merge 1 names \"ba\""},
    {"MergeWithoutSpace", [](MetadataOf& m) { SmallGpt2(m, "gpt-2", {"ab"}); }, kInvalid, "merge 0"},
    {"ByteTokens",
     [](MetadataOf& m) {
       SmallGpt2(m, "gpt-2");
       m.Set("token_type", std::vector<int64_t>{1, 6, 1});
     },
     kInvalid, "byte token"},
};

INSTANTIATE_TEST_SUITE_P(All, TokenizerGgufRefusal, testing::ValuesIn(kGgufCases),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(TokenizerGguf, MissingPreTokenizerIsNotGuessed) {
  MetadataOf metadata("bad.gguf");
  metadata.Set("model", std::string_view("gpt2"));
  metadata.SetStrings("tokens", {"a"});
  ExpectRefused(CreateTokenizer(metadata.get()).status(), absl::StatusCode::kNotFound, "bad.gguf",
                "tokenizer.ggml.pre");
}

TEST(TokenizerGguf, SpacePrefixAndEndTokensAreHonoured) {
  const auto metadata = LlamaMetadata(DemoFolder() + "/tokenizer.model");
  metadata->Set("add_space_prefix", false);
  metadata->Set("add_bos_token", false);
  metadata->Set("eot_token_id", uint64_t{7});
  metadata->Set("eom_token_id", uint64_t{8});
  const auto tokenizer = CreateTokenizer(metadata->get());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_FALSE((*tokenizer)->strips_leading_space());
  EXPECT_FALSE((*tokenizer)->adds_bos());
  EXPECT_EQ((*tokenizer)->end_tokens(), (std::vector<TokenId>{7, 8, 2}));
  const auto ids = (*tokenizer)->Encode(" the", {});
  ASSERT_TRUE(ids.ok());
  ASSERT_EQ(ids->size(), 1u);
  EXPECT_EQ((*tokenizer)->TokenText(ids->front()), "\u2581the");
}

}  // namespace
}  // namespace thermocline
