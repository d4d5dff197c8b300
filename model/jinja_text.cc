// Code points, white space and letter case as Python has them.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_text.h"

#include <unicode/locid.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

namespace thermocline {
namespace {

struct Decoded {
  int32_t code_point;  // negative where malformed
  size_t bytes;
};

Decoded DecodeAt(std::string_view text, size_t position) {
  // A window, since ICU counts in 32 bits.
  const std::string_view window = text.substr(position, 4);
  const auto* data = reinterpret_cast<const uint8_t*>(window.data());
  int32_t next = 0;
  UChar32 c;
  U8_NEXT(data, next, static_cast<int32_t>(window.size()), c);
  return c < 0 ? Decoded{-1, 1} : Decoded{c, static_cast<size_t>(next)};
}

bool IsPythonSpace(int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

std::string ChangedCase(std::string_view bytes, bool upper) {
  icu::UnicodeString wide = icu::UnicodeString::fromUTF8({bytes.data(), static_cast<int32_t>(bytes.size())});
  const icu::Locale& root = icu::Locale::getRoot();
  if (upper) {
    wide.toUpper(root);
  } else {
    wide.toLower(root);
  }
  std::string changed;
  wide.toUTF8String(changed);
  return changed;
}

}  // namespace

size_t JinjaCodePointBytes(std::string_view text, size_t position) { return DecodeAt(text, position).bytes; }

std::vector<size_t> JinjaCodePoints(std::string_view text) {
  std::vector<size_t> starts;
  size_t position = 0;
  for (; position < text.size(); position += DecodeAt(text, position).bytes) starts.push_back(position);
  starts.push_back(position);
  return starts;
}

size_t JinjaSpaceBefore(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    const Decoded next = DecodeAt(text, position);
    if (!IsPythonSpace(next.code_point)) break;
    position += next.bytes;
  }
  return position;
}

size_t JinjaSpaceAfter(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    // Space is at most three bytes long.
    size_t begin = end - 1;
    while (begin > 0 && end - begin < 3 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const Decoded last = DecodeAt(text.substr(0, end), begin);
    if (last.bytes != end - begin || !IsPythonSpace(last.code_point)) break;
    end = begin;
  }
  return text.size() - end;
}

JinjaText JinjaChangeCase(const JinjaText& text, JinjaCase change) {
  JinjaText changed;
  if (change == JinjaCase::kUpper || change == JinjaCase::kLower) {
    for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
      end = text.RunEnd(begin);
      changed.Append(
          ChangedCase(std::string_view(text.bytes()).substr(begin, end - begin), change == JinjaCase::kUpper),
          text.origin(begin));
    }
    return changed;
  }
  bool inside_word = false;
  for (size_t position = 0; position < text.size();) {
    const Decoded next = DecodeAt(text.bytes(), position);
    const std::string_view letter = std::string_view(text.bytes()).substr(position, next.bytes);
    changed.Append(next.code_point < 0 ? std::string(letter) : ChangedCase(letter, !inside_word),
                   text.origin(position));
    // Jinja's title starts words after white space, "-" and opening brackets.
    inside_word =
        change == JinjaCase::kCapitalized ||
        !(IsPythonSpace(next.code_point) || std::string_view("-({[<").find(letter) != std::string_view::npos);
    position += next.bytes;
  }
  return changed;
}

}  // namespace thermocline
