// Escaping with ICU, formatting with fmt, which no locale changes.
// SPDX-License-Identifier: Apache-2.0
#include "profiler/report_text.h"

#include <fmt/format.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <array>
#include <cmath>

namespace thermocline {
namespace {

constexpr std::string_view kDash = "–";
constexpr std::string_view kNoBreakSpace = "\u00a0";
constexpr char16_t kReplacement = 0xFFFD;

bool IsShown(UChar32 character) {
  if (character == '\t' || character == '\n') return true;
  const int8_t type = u_charType(character);
  return type != U_CONTROL_CHAR && type != U_FORMAT_CHAR && type != U_UNASSIGNED && type != U_SURROGATE;
}

std::string WithoutTrailingZeros(std::string number) {
  if (number.find('.') == std::string::npos) return number;
  number.erase(number.find_last_not_of('0') + 1);
  if (number.back() == '.') number.pop_back();
  return number;
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  const auto source =
      icu::UnicodeString::fromUTF8(icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
  icu::UnicodeString escaped;
  for (int32_t i = 0; i < source.length(); i = source.moveIndex32(i, 1)) {
    const UChar32 character = source.char32At(i);
    switch (character) {
      case '&':
        escaped += u"&amp;";
        break;
      case '<':
        escaped += u"&lt;";
        break;
      case '>':
        escaped += u"&gt;";
        break;
      case '"':
        escaped += u"&quot;";
        break;
      case '\'':
        escaped += u"&#39;";
        break;
      default:
        escaped.append(IsShown(character) ? character : static_cast<UChar32>(kReplacement));
    }
  }
  std::string utf8;
  return escaped.toUTF8String(utf8);
}

std::string FormatCount(int64_t count) {
  std::string digits = fmt::format("{}", count);
  const size_t first = count < 0 ? 1 : 0;
  for (size_t end = digits.size(); end > first + 3;) {
    end -= 3;
    digits.insert(end, 1, ',');
  }
  return digits;
}

std::string FormatNumber(double value) {
  if (!std::isfinite(value)) return std::string(kDash);
  const double magnitude = std::abs(value);
  if (magnitude >= 1e15) return fmt::format("{:.2e}", value);
  if (magnitude >= 999.5) return FormatCount(std::llround(value));
  if (magnitude >= 99.95) return fmt::format("{:.0f}", value);
  if (magnitude >= 9.995) return WithoutTrailingZeros(fmt::format("{:.1f}", value));
  if (magnitude >= 0.9995) return WithoutTrailingZeros(fmt::format("{:.2f}", value));
  return fmt::format("{:.3g}", value);
}

std::string FormatShare(double share) {
  if (!std::isfinite(share)) return std::string(kDash);
  const double percent = share * 100;
  if (percent > 0 && percent < 0.05) return fmt::format("under 0.1{}%", kNoBreakSpace);
  if (percent > 99.95 && percent < 100) return fmt::format("over 99.9{}%", kNoBreakSpace);
  return fmt::format("{}{}%", WithoutTrailingZeros(fmt::format("{:.1f}", percent)), kNoBreakSpace);
}

std::string FormatFixed(double value, int decimals) {
  if (!std::isfinite(value)) return std::string(kDash);
  if (std::abs(value) >= 1e15) return FormatNumber(value);
  return fmt::format("{:.{}f}", value, decimals);
}

std::string FormatColumnShare(double share) {
  if (!std::isfinite(share)) return std::string(kDash);
  return fmt::format("{}{}%", FormatFixed(share * 100, 1), kNoBreakSpace);
}

std::string FormatBytes(double bytes) {
  if (!std::isfinite(bytes)) return std::string(kDash);
  constexpr std::array<std::string_view, 6> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  size_t unit = 0;
  while (std::abs(bytes) >= 1023.5 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{}{}{}", FormatNumber(bytes), kNoBreakSpace, kUnits[unit]);
}

std::string FormatCoordinate(double coordinate) {
  if (!std::isfinite(coordinate)) return "0";
  std::string text = WithoutTrailingZeros(fmt::format("{:.1f}", coordinate));
  return text == "-0" ? "0" : text;
}

}  // namespace thermocline
