// Log-probabilities as OpenAI's two endpoints have them.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string_view>
#include <utility>

#include "server/openai_response.h"

namespace thermocline {
namespace {

using Json = nlohmann::json;

// A token as text: a control token's spelling, U+FFFD for bytes that are only part of a character.
std::string Spelling(const Tokenizer& tokenizer, TokenId token) {
  if (tokenizer.TokenBytes(token).empty()) return std::string(tokenizer.TokenText(token));
  IncrementalDecoder decoder(tokenizer, /*at_start=*/false);
  std::string text = decoder.Push(token);
  return text + decoder.Flush();
}

// The same, but such bytes are spelled out, so that different tokens differ: "bytes:\xe2\x80".
std::string UniqueSpelling(const Tokenizer& tokenizer, TokenId token) {
  const std::string_view bytes = tokenizer.TokenBytes(token);
  std::string text = Spelling(tokenizer, token);
  if (bytes.empty() || text == bytes) return text;
  std::string spelled = "bytes:";
  for (const char byte : bytes) spelled += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return spelled;
}

// Characters that begin in the token: bytes that do not continue one.
int64_t CharactersOf(std::string_view bytes) {
  return std::ranges::count_if(bytes, [](char byte) { return (byte & 0xC0) != 0x80; });
}

Json ChatToken(const Tokenizer& tokenizer, TokenId token, float logprob) {
  const std::string_view bytes = tokenizer.TokenBytes(token);
  Json values = Json::array();
  for (const char byte : bytes) values.push_back(static_cast<unsigned char>(byte));
  return {{"token", Spelling(tokenizer, token)},
          {"logprob", logprob},
          {"bytes", bytes.empty() ? Json(nullptr) : std::move(values)}};
}

}  // namespace

LogprobWriter::LogprobWriter(OpenAiEndpoint endpoint, const Tokenizer& tokenizer, bool ignore_eos)
    : endpoint_(endpoint), tokenizer_(tokenizer), ignore_eos_(ignore_eos) {}

Json LogprobWriter::Write(std::span<const TokenLogprob> logprobs) {
  return endpoint_ == OpenAiEndpoint::kChat ? WriteChat(logprobs) : WriteCompletions(logprobs);
}

bool LogprobWriter::IsShown(TokenId token) const {
  const std::vector<TokenId>& ends = tokenizer_.end_tokens();
  return ignore_eos_ || std::ranges::find(ends, token) == ends.end();
}

Json LogprobWriter::WriteCompletions(std::span<const TokenLogprob> logprobs) {
  Json tokens = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
  for (const TokenLogprob& entry : logprobs) {
    if (!IsShown(entry.id)) continue;
    const std::string spelling = UniqueSpelling(tokenizer_, entry.id);
    Json top = {{spelling, entry.logprob}};
    for (const auto& [token, logprob] : entry.top) top.emplace(UniqueSpelling(tokenizer_, token), logprob);
    tokens.push_back(spelling);
    values.push_back(entry.logprob);
    tops.push_back(std::move(top));
    offsets.push_back(text_offset_);
    text_offset_ += CharactersOf(tokenizer_.TokenBytes(entry.id));
  }
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

Json LogprobWriter::WriteChat(std::span<const TokenLogprob> logprobs) const {
  Json content = Json::array();
  for (const TokenLogprob& entry : logprobs) {
    if (!IsShown(entry.id)) continue;
    Json top = Json::array();
    for (const auto& [token, logprob] : entry.top) top.push_back(ChatToken(tokenizer_, token, logprob));
    content.push_back(ChatToken(tokenizer_, entry.id, entry.logprob));
    content.back()["top_logprobs"] = std::move(top);
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

}  // namespace thermocline
