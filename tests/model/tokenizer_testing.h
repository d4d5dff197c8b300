// What the tokenizer tests share: the golden file, the fixtures, GGUF metadata made from them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/mapped_file.h"
#include "model/gguf_file.h"
#include "model/sentencepiece_model.h"
#include "model/tokenizer.h"

namespace thermocline {

inline std::string FixturePath(const std::string& name) {
  return std::string(THERMOCLINE_SOURCE_DIR "/tests/support/golden/tokenizer/") + name;
}

inline std::string DemoFolder() { return THERMOCLINE_SOURCE_DIR "/models/demo"; }

inline std::string ReadFile(const std::string& path) {
  auto text = ReadTextFile(path, int64_t{1} << 30);
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? *text : "";
}

inline nlohmann::json ReadJson(const std::string& path) { return nlohmann::json::parse(ReadFile(path)); }

// See tests/support/golden/make_tokenizer_golden.py.
inline const nlohmann::json& Golden() {
  static const nlohmann::json golden = ReadJson(FixturePath("golden.json"));
  return golden;
}

inline std::unique_ptr<Tokenizer> FromFolder(const std::string& folder) {
  auto tokenizer = CreateTokenizerFromFolder(folder);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

// The fixtures of the repository and the demo model.
inline std::unique_ptr<Tokenizer> Fixture(const std::string& name) {
  return FromFolder(name == "demo" ? DemoFolder() : FixturePath(name));
}

// GGUF metadata of a tokenizer, with the strings that it borrows.
class MetadataOf {
 public:
  explicit MetadataOf(const std::string& name) : metadata_(name) {}
  MetadataOf(const MetadataOf&) = delete;
  MetadataOf& operator=(const MetadataOf&) = delete;

  void Set(const std::string& key, GgufMetadata::Value value) {
    const absl::Status added = metadata_.Add("tokenizer.ggml." + key, std::move(value));
    EXPECT_TRUE(added.ok()) << added;
  }
  void SetStrings(const std::string& key, const std::vector<std::string>& strings) {
    std::vector<std::string_view> views;
    for (const std::string& text : strings) views.push_back(*kept_.emplace_back(new std::string(text)));
    Set(key, std::move(views));
  }
  const GgufMetadata& get() const { return metadata_; }

 private:
  GgufMetadata metadata_;
  std::vector<std::unique_ptr<std::string>> kept_;
};

// The byte-level fixture `name` as a GGUF file would hold it.
inline std::unique_ptr<MetadataOf> ByteLevelMetadata(const std::string& name, std::string_view pre) {
  const nlohmann::json document = ReadJson(FixturePath(name) + "/tokenizer.json");
  std::vector<std::string> tokens;
  std::vector<int64_t> types;
  auto place = [&](size_t id, const std::string& text, int64_t type) {
    tokens.resize(std::max(tokens.size(), id + 1));
    types.resize(tokens.size(), 5);
    tokens[id] = text;
    types[id] = type;
  };
  for (const auto& [text, id] : document["model"]["vocab"].items()) place(id, text, 1);
  for (const auto& added : document["added_tokens"]) {
    place(added["id"], added["content"], added["special"].get<bool>() ? 3 : 4);
  }
  std::vector<std::string> merges;
  for (const auto& merge : document["model"]["merges"]) {
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  auto metadata = std::make_unique<MetadataOf>(name + ".gguf");
  metadata->Set("model", std::string_view("gpt2"));
  metadata->Set("pre", pre);
  metadata->SetStrings("tokens", tokens);
  metadata->SetStrings("merges", merges);
  metadata->Set("token_type", types);
  return metadata;
}

// A tokenizer.model as a GGUF file would hold it, without the keys that have defaults.
inline std::unique_ptr<MetadataOf> LlamaMetadata(const std::string& path) {
  const std::string bytes = ReadFile(path);
  auto model = ParseSentencePieceModel(bytes, path);
  EXPECT_TRUE(model.ok()) << model.status();
  auto metadata = std::make_unique<MetadataOf>("llama.gguf");
  metadata->Set("model", std::string_view("llama"));
  metadata->SetStrings("tokens", model->vocabulary.texts);
  std::vector<int64_t> types;
  for (TokenType type : model->vocabulary.types) types.push_back(static_cast<int64_t>(type));
  metadata->Set("token_type", types);
  metadata->Set("scores", std::vector<double>(model->options.scores.begin(), model->options.scores.end()));
  return metadata;
}

// nullptr, and a reason, where the real model is not at hand.
inline std::unique_ptr<Tokenizer> SmolLm2(std::string& reason) {
  const char* folder = std::getenv("THERMOCLINE_TEST_MODELS");
  if (folder == nullptr) {
    reason = "THERMOCLINE_TEST_MODELS names no folder with SmolLM2-135M-Instruct.Q4_1.gguf";
    return nullptr;
  }
  auto file = GgufFile::Open(std::string(folder) + "/SmolLM2-135M-Instruct.Q4_1.gguf");
  if (!file.ok()) {
    reason = std::string(file.status().message());
    return nullptr;
  }
  auto tokenizer = CreateTokenizer(file->metadata);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

}  // namespace thermocline
