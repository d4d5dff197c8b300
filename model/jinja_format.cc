// Values as text: Python's str() and repr(), and JSON.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "model/jinja_value.h"

namespace thermocline {
namespace {

std::string FloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

// Writes values in one of two notations, each byte with the origin of what it spells.
class Writer {
 public:
  Writer(bool json, int64_t indent, JinjaBudget& budget) : json_(json), indent_(indent), budget_(budget) {}

  absl::Status Write(const JinjaValue& value, int64_t level = 0) {
    TC_RETURN_IF_ERROR(budget_.Spend(1));
    if (value.IsNone()) {
      Put(json_ ? "null" : "None");
    } else if (value.IsBool()) {
      Put(value.AsInteger() != 0 ? (json_ ? "true" : "True") : (json_ ? "false" : "False"));
    } else if (value.IsInteger()) {
      Put(std::to_string(value.AsInteger()));
    } else if (value.IsNumber()) {
      Put(FloatText(value.AsDouble()));
    } else if (const JinjaText* text = value.AsText()) {
      TC_RETURN_IF_ERROR(budget_.SpendText(text->size()));
      Quote(*text);
    } else if (const JinjaList* list = value.AsList()) {
      Put("[");
      for (size_t i = 0; i < list->size(); ++i) {
        Separate(i, level + 1);
        TC_RETURN_IF_ERROR(Write((*list)[i], level + 1));
      }
      Close("]", list->empty(), level);
    } else if (const JinjaEntries* dict = value.AsDict()) {
      Put("{");
      for (size_t i = 0; i < dict->size(); ++i) {
        Separate(i, level + 1);
        TC_RETURN_IF_ERROR(Write((*dict)[i].first, level + 1));
        Put(": ");
        TC_RETURN_IF_ERROR(Write((*dict)[i].second, level + 1));
      }
      Close("}", dict->empty(), level);
    } else if (value.IsUndefined() && !json_) {
      Put("Undefined");
    } else {
      return FailedPrecondition("a {} cannot be written {}", value.KindName(), json_ ? "as JSON" : "as text");
    }
    return budget_.CheckText(text_.size());
  }
  JinjaText Take() { return std::move(text_); }

 private:
  void Put(std::string_view bytes) { text_.Append(bytes, JinjaOrigin::kTemplate); }

  void NewLine(int64_t level) {
    Put("\n");
    Put(std::string(static_cast<size_t>(level * indent_), ' '));
  }
  void Separate(size_t index, int64_t level) {
    if (index > 0) Put(indent_ < 0 ? ", " : ",");
    if (indent_ >= 0) NewLine(level);
  }
  void Close(std::string_view bracket, bool empty, int64_t level) {
    if (indent_ >= 0 && !empty) NewLine(level);
    Put(bracket);
  }

  // A byte of a string between quotes.
  std::string Spelt(char c, char quote) const {
    const auto code = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') return fmt::format("\\{}", c);
    if (c == '\n') return "\\n";
    if (c == '\r') return "\\r";
    if (c == '\t') return "\\t";
    if (json_ && c == '\b') return "\\b";
    if (json_ && c == '\f') return "\\f";
    if (json_ && code < 0x20) return fmt::format("\\u{:04x}", code);
    if (!json_ && (code < 0x20 || code == 0x7F)) return fmt::format("\\x{:02x}", code);
    return std::string(1, c);
  }

  void Quote(const JinjaText& text) {
    const std::string& bytes = text.bytes();
    // Python takes single quotes unless only they occur inside.
    const bool has_single = bytes.find('\'') != std::string::npos;
    const bool has_double = bytes.find('"') != std::string::npos;
    const char quote = json_ || (has_single && !has_double) ? '"' : '\'';
    Put({&quote, 1});
    for (size_t i = 0; i < bytes.size(); ++i) text_.Append(Spelt(bytes[i], quote), text.origin(i));
    Put({&quote, 1});
  }

  const bool json_;
  const int64_t indent_;
  JinjaBudget& budget_;
  JinjaText text_;
};

}  // namespace

absl::StatusOr<JinjaText> JinjaToText(const JinjaValue& value, JinjaBudget& budget) {
  if (value.IsUndefined()) return JinjaText();
  if (const JinjaText* text = value.AsText()) {
    TC_RETURN_IF_ERROR(budget.SpendText(text->size()));
    return *text;
  }
  Writer writer(/*json=*/false, /*indent=*/-1, budget);
  TC_RETURN_IF_ERROR(writer.Write(value));
  return writer.Take();
}

absl::StatusOr<JinjaText> JinjaToJson(const JinjaValue& value, int64_t indent, JinjaBudget& budget) {
  Writer writer(/*json=*/true, indent, budget);
  TC_RETURN_IF_ERROR(writer.Write(value));
  return writer.Take();
}

}  // namespace thermocline
