// PreTokenizer over ICU's regular expressions, which read the UTF-8 bytes in place.
// SPDX-License-Identifier: Apache-2.0
#include "model/pre_tokenizer.h"

#include <unicode/regex.h>
#include <unicode/unistr.h>
#include <unicode/utext.h>

#include "model/printable.h"

namespace thermocline {
namespace {

// ICU counts its work in steps of 10,000 saved states, over all matches of a text, and gives up at a limit:
// the end of a pattern that backtracks without one. The known patterns take a step for about 2 KB of text.
constexpr int32_t kLeastStepLimit = 5'000;
constexpr int32_t kBytesPerStep = 256;
// For backtracking, in bytes. The known patterns need a few hundred for any text.
constexpr int32_t kStackLimit = 8 << 20;

// ICU loops over "[\s]" without backtracking state, but keeps a state for each turn of a loop over a bare
// "\s": a megabyte of spaces would overflow its stack. The two mean the same.
std::string BracketClasses(std::string_view pattern) {
  if (pattern.find("\\Q") != std::string_view::npos) return std::string(pattern);
  std::string result;
  int depth = 0;  // of [ ]
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      const bool is_class = std::string_view("sSdDwW").find(escaped) != std::string_view::npos;
      const bool wrap = is_class && depth == 0;
      if (wrap) result += '[';
      result += c;
      result += escaped;
      if (wrap) result += ']';
      continue;
    }
    if (c == '[') ++depth;
    if (c == ']' && depth > 0) --depth;
    result += c;
  }
  return result;
}

struct UTextCloser {
  void operator()(UText* text) const { utext_close(text); }
};

}  // namespace

struct PreTokenizer::Pattern {
  std::string source;
  std::unique_ptr<icu::RegexPattern> compiled;

  absl::Status Split(std::string_view text, const std::vector<std::string_view>& pieces,
                     std::vector<std::string_view>& result) const;
};

absl::Status PreTokenizer::Pattern::Split(std::string_view text, const std::vector<std::string_view>& pieces,
                                          std::vector<std::string_view>& result) const {
  UErrorCode error = U_ZERO_ERROR;
  const std::unique_ptr<UText, UTextCloser> input(
      utext_openUTF8(nullptr, text.data(), static_cast<int64_t>(text.size()), &error));
  const std::unique_ptr<icu::RegexMatcher> matcher(compiled->matcher(error));
  if (U_SUCCESS(error)) {
    matcher->setTimeLimit(kLeastStepLimit + static_cast<int32_t>(text.size() / kBytesPerStep), error);
    matcher->setStackLimit(kStackLimit, error);
    matcher->reset(input.get());
  }
  for (size_t i = 0; U_SUCCESS(error) && i < pieces.size(); ++i) {
    const int64_t begin = pieces[i].data() - text.data();
    const int64_t end = begin + static_cast<int64_t>(pieces[i].size());
    matcher->region(begin, end, error);
    int64_t done = begin;
    auto append_until = [&](int64_t position) {
      if (position > done) result.push_back(text.substr(done, position - done));
      done = std::max(done, position);
    };
    while (matcher->find(error) && U_SUCCESS(error)) {
      append_until(matcher->start64(error));
      append_until(matcher->end64(error));
    }
    append_until(end);
  }
  if (U_FAILURE(error)) {
    return InvalidArgument("pre-tokenizer pattern \"{}\" failed on a text of {} bytes: {}", Printable(source),
                           text.size(), u_errorName(error));
  }
  return absl::OkStatus();
}

absl::StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<std::string>& patterns) {
  std::vector<std::unique_ptr<Pattern>> compiled;
  for (const std::string& source : patterns) {
    UErrorCode error = U_ZERO_ERROR;
    UParseError place{};
    std::unique_ptr<icu::RegexPattern> pattern(
        icu::RegexPattern::compile(icu::UnicodeString::fromUTF8(BracketClasses(source)), 0, place, error));
    if (U_FAILURE(error)) {
      return InvalidArgument("pre-tokenizer pattern \"{}\": {} near character {}", Printable(source),
                             u_errorName(error), place.offset);
    }
    compiled.push_back(std::make_unique<Pattern>(Pattern{source, std::move(pattern)}));
  }
  return PreTokenizer(std::move(compiled));
}

PreTokenizer::PreTokenizer(std::vector<std::unique_ptr<Pattern>> patterns) : patterns_(std::move(patterns)) {}
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

absl::StatusOr<std::vector<std::string_view>> PreTokenizer::Split(std::string_view text) const {
  std::vector<std::string_view> pieces;
  if (text.empty()) return pieces;
  pieces.push_back(text);
  for (const std::unique_ptr<Pattern>& pattern : patterns_) {
    std::vector<std::string_view> finer;
    TC_RETURN_IF_ERROR(pattern->Split(text, pieces, finer));
    pieces = std::move(finer);
  }
  return pieces;
}

std::string_view Gpt2Pattern() {
  return R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
}

std::string_view Llama3Pattern() {
  return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
         R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

std::string_view Qwen2Pattern() {
  return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
         R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

std::string_view SingleDigitPattern() { return R"(\p{N})"; }

std::string_view DigitRunPattern() { return R"(\p{N}+)"; }

}  // namespace thermocline
