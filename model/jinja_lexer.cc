// Cuts a template into text and tags, and tags into names, literals and operators.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_lexer.h"

#include <unicode/utf8.h>

#include <algorithm>
#include <charconv>

#include "model/jinja_text.h"
#include "model/printable.h"

namespace thermocline {
namespace {

using Kind = JinjaTokenKind;

bool IsNameStart(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Line ends as \n, and without the last one.
std::string Normalized(std::string_view source) {
  std::string text;
  text.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      text += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      text += '\n';
    }
  }
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

void AppendUtf8(uint32_t code_point, std::string& text) {
  uint8_t bytes[U8_MAX_LENGTH];
  int32_t length = 0;
  U8_APPEND_UNSAFE(bytes, length, code_point);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(Normalized(source)), rest_(source_) {}

  absl::StatusOr<std::vector<JinjaToken>> Run() {
    while (!rest_.empty()) {
      const absl::Status status = TextAndTag();
      if (!status.ok()) return AtJinjaLine(line_, status);
    }
    Emit(Kind::kEnd);
    return std::move(tokens_);
  }

 private:
  void Emit(Kind kind, std::string text = "") {
    tokens_.push_back({.kind = kind, .text = std::move(text), .line = line_});
  }

  void Skip(size_t count) {
    if (count == 0) return;
    line_ +=
        static_cast<int>(std::count(rest_.begin(), rest_.begin() + static_cast<std::ptrdiff_t>(count), '\n'));
    at_line_start_ = rest_[count - 1] == '\n';
    rest_.remove_prefix(count);
  }

  static size_t FindTag(std::string_view text) {
    for (size_t at = text.find('{'); at != std::string_view::npos; at = text.find('{', at + 1)) {
      if (at + 1 < text.size() && std::string_view("{%#").find(text[at + 1]) != std::string_view::npos)
        return at;
    }
    return std::string_view::npos;
  }

  // What stays of the text in front of a tag.
  std::string_view Trimmed(std::string_view text, char tag, char sign) const {
    if (sign == '-') return text.substr(0, text.size() - JinjaSpaceAfter(text));
    if (sign == '+' || tag == '{') return text;
    const size_t line = text.rfind('\n') + 1;  // 0 where there is no line end
    if (line == 0 && !at_line_start_) return text;
    const std::string_view indentation = text.substr(line);
    return JinjaSpaceBefore(indentation) == indentation.size() ? text.substr(0, line) : text;
  }

  absl::Status TextAndTag() {
    const size_t at = FindTag(rest_);
    if (at == std::string_view::npos) {
      Emit(Kind::kText, std::string(rest_));
      Skip(rest_.size());
      return absl::OkStatus();
    }
    const char tag = rest_[at + 1];
    const char sign = at + 2 < rest_.size() ? rest_[at + 2] : '\0';
    const bool has_sign = sign == '-' || sign == '+';
    const std::string_view kept = Trimmed(rest_.substr(0, at), tag, sign);
    if (!kept.empty()) Emit(Kind::kText, std::string(kept));
    Skip(at + 2 + (has_sign ? 1 : 0));
    if (tag == '#') return Comment();
    Emit(tag == '{' ? Kind::kOutputBegin : Kind::kBlockBegin);
    return Tag(tag == '{' ? "}}" : "%}");
  }

  // Behind the end of a tag: "-" takes all white space away, a block's or a comment's end its line end.
  void SkipBehindTag(char sign, bool trims_line_end) {
    if (sign == '-') {
      Skip(JinjaSpaceBefore(rest_));
    } else if (trims_line_end && sign != '+' && rest_.starts_with('\n')) {
      Skip(1);
    }
  }

  absl::Status Comment() {
    const size_t end = rest_.find("#}");
    if (end == std::string_view::npos) return InvalidArgument("a comment has no end");
    const char sign = end > 0 ? rest_[end - 1] : '\0';
    Skip(end + 2);
    SkipBehindTag(sign, /*trims_line_end=*/true);
    return absl::OkStatus();
  }

  absl::Status Tag(std::string_view end) {
    const bool is_block = end == "%}";
    brackets_.clear();
    while (true) {
      Skip(JinjaSpaceBefore(rest_));
      if (rest_.empty()) return InvalidArgument("a tag has no end, {} is expected", end);
      const bool is_signed = rest_[0] == '-' || (is_block && rest_[0] == '+');
      // In open brackets }} closes two of them.
      if (brackets_.empty() && rest_.substr(is_signed ? 1 : 0).starts_with(end)) {
        const char sign = is_signed ? rest_[0] : '\0';
        Emit(is_block ? Kind::kBlockEnd : Kind::kOutputEnd);
        Skip(end.size() + (is_signed ? 1 : 0));
        SkipBehindTag(sign, is_block);
        return absl::OkStatus();
      }
      TC_RETURN_IF_ERROR(Token());
    }
  }

  absl::Status Token() {
    const char c = rest_[0];
    if (IsNameStart(c)) {
      const auto* end = std::ranges::find_if_not(rest_, [](char d) { return IsNameStart(d) || IsDigit(d); });
      const auto length = static_cast<size_t>(end - rest_.begin());
      Emit(Kind::kName, std::string(rest_.substr(0, length)));
      Skip(length);
      return absl::OkStatus();
    }
    if (IsDigit(c)) return Number();
    if (c == '"' || c == '\'') return String(c);
    return Operator();
  }

  absl::Status Number() {
    JinjaToken token{.kind = Kind::kInteger, .line = line_};
    const auto digits_end = [this](size_t at) {
      while (at < rest_.size() && IsDigit(rest_[at])) ++at;
      return at;
    };
    size_t length = digits_end(0);
    const size_t integer_end = length;
    if (length < rest_.size() && rest_[length] == '.') {
      if (const size_t end = digits_end(length + 1); end > length + 1) length = end;
    }
    if (length < rest_.size() && (rest_[length] == 'e' || rest_[length] == 'E')) {
      const bool is_signed =
          length + 1 < rest_.size() && (rest_[length + 1] == '+' || rest_[length + 1] == '-');
      const size_t begin = length + (is_signed ? 2 : 1);
      if (const size_t end = digits_end(begin); end > begin) length = end;
    }
    const std::string_view number = rest_.substr(0, length);
    const char* const end = number.data() + number.size();
    if (length > integer_end) {
      token.kind = Kind::kFloat;
      if (std::from_chars(number.data(), end, token.number).ec != std::errc()) {
        return InvalidArgument("{} is out of the range of numbers", Printable(number));
      }
    } else if (std::from_chars(number.data(), end, token.integer).ec != std::errc()) {
      return InvalidArgument("{} does not fit into 64 bits", Printable(number));
    }
    if (length < rest_.size() && IsNameStart(rest_[length])) {
      return InvalidArgument("'{}' is no number", Printable(rest_.substr(0, length + 1)));
    }
    token.text = std::string(rest_.substr(0, length));
    tokens_.push_back(std::move(token));
    Skip(length);
    return absl::OkStatus();
  }

  absl::Status String(char quote) {
    size_t length = 1;
    while (length < rest_.size() && rest_[length] != quote) length += rest_[length] == '\\' ? 2 : 1;
    if (length >= rest_.size()) return InvalidArgument("a string has no end");
    TC_ASSIGN_OR_RETURN(std::string text, Unescaped(rest_.substr(1, length - 1)));
    Emit(Kind::kString, std::move(text));
    Skip(length + 1);
    return absl::OkStatus();
  }

  // Python's escapes. One that Python does not know keeps its backslash.
  static absl::StatusOr<std::string> Unescaped(std::string_view raw) {
    constexpr std::string_view kLetters = "abfnrtv\\'\"";
    constexpr std::string_view kMeanings = "\a\b\f\n\r\t\v\\'\"";
    std::string text;
    for (size_t i = 0; i < raw.size(); ++i) {
      if (raw[i] != '\\') {
        text += raw[i];
        continue;
      }
      const char c = raw[++i];
      if (const size_t known = kLetters.find(c); known != std::string_view::npos) {
        text += kMeanings[known];
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const std::string_view hex = raw.substr(i + 1, digits);
        uint32_t code_point = 0;
        const auto [end, error] = std::from_chars(hex.data(), hex.data() + hex.size(), code_point, 16);
        if (hex.size() != digits || error != std::errc() || end != hex.data() + hex.size() ||
            !U_IS_UNICODE_CHAR(code_point)) {
          return InvalidArgument("the escape \\{} of a string is not followed by a character's {} digits", c,
                                 digits);
        }
        AppendUtf8(code_point, text);
        i += digits;
      } else if (c >= '0' && c <= '7') {
        uint32_t code_point = 0;
        for (size_t digits = 0; digits < 3 && i < raw.size() && raw[i] >= '0' && raw[i] <= '7';
             ++digits, ++i) {
          code_point = code_point * 8 + static_cast<uint32_t>(raw[i] - '0');
        }
        --i;
        AppendUtf8(code_point, text);
      } else if (c != '\n') {
        text += {'\\', c};
      }
    }
    return text;
  }

  absl::Status Operator() {
    constexpr std::string_view kTwo[] = {"//", "==", "!=", "<=", ">="};
    constexpr std::string_view kOne = "+-*/%~<>=.,:|()[]{}";
    for (const std::string_view two : kTwo) {
      if (!rest_.starts_with(two)) continue;
      Emit(Kind::kOperator, std::string(two));
      Skip(2);
      return absl::OkStatus();
    }
    const char c = rest_[0];
    if (kOne.find(c) == std::string_view::npos || rest_.starts_with("**")) {
      return InvalidArgument("unexpected '{}'", Printable(rest_.substr(0, rest_.starts_with("**") ? 2 : 1)));
    }
    if (c == '(' || c == '[' || c == '{') brackets_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) return InvalidArgument("unexpected '{}'", c);
      brackets_.pop_back();
    }
    Emit(Kind::kOperator, std::string(1, c));
    Skip(1);
    return absl::OkStatus();
  }

  const std::string source_;
  std::string_view rest_;  // of source_
  int line_ = 1;
  bool at_line_start_ = true;
  std::string brackets_;  // that close what is open
  std::vector<JinjaToken> tokens_;
};

}  // namespace

absl::Status AtJinjaLine(int line, const absl::Status& problem) {
  return absl::Status(problem.code(), fmt::format("chat template, line {}: {}", line, MessageOf(problem)));
}

absl::StatusOr<std::vector<JinjaToken>> LexJinja(std::string_view source) { return Lexer(source).Run(); }

}  // namespace thermocline
