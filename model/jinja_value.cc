// Truth, equality, order and membership of values.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_value.h"

#include <algorithm>

namespace thermocline {

absl::Status JinjaBudget::Spend(int64_t units) {
  left_ -= std::min(units, left_ + 1);
  if (left_ >= 0) return absl::OkStatus();
  return InvalidArgument("the conversation takes more than the limit of {} units of work", limits_.work);
}

absl::Status JinjaBudget::SpendBytes(size_t bytes) { return Spend(1 + static_cast<int64_t>(bytes / 32)); }

absl::Status JinjaBudget::CheckText(size_t bytes) const {
  if (bytes <= static_cast<size_t>(limits_.output_bytes)) return absl::OkStatus();
  return InvalidArgument("the text grows to {} bytes, the limit is {}", bytes, limits_.output_bytes);
}

absl::Status JinjaBudget::SpendText(size_t bytes) {
  TC_RETURN_IF_ERROR(CheckText(bytes));
  return SpendBytes(bytes);
}

namespace {

template <typename Value>
const Value* PointerIn(const auto& variant) {
  const auto* held = std::get_if<std::shared_ptr<const Value>>(&variant);
  return held == nullptr ? nullptr : held->get();
}

absl::Status CheckDepth(int depth) {
  if (depth <= JinjaValue::kMostDepth) return absl::OkStatus();
  return InvalidArgument("lists and dicts are nested deeper than the limit of {}", JinjaValue::kMostDepth);
}

}  // namespace

JinjaValue::JinjaValue(std::shared_ptr<const JinjaLoop> value)
    : value_(std::move(value)), depth_(AsLoop()->elements.depth() + 1) {}

absl::StatusOr<JinjaValue> JinjaValue::List(JinjaList elements) {
  JinjaValue list;
  for (const JinjaValue& element : elements) list.depth_ = std::max(list.depth_, element.depth_);
  TC_RETURN_IF_ERROR(CheckDepth(++list.depth_));
  list.value_ = std::make_shared<const JinjaList>(std::move(elements));
  return list;
}

absl::StatusOr<JinjaValue> JinjaValue::Dict(JinjaEntries entries) {
  JinjaValue dict;
  for (const auto& [key, value] : entries) dict.depth_ = std::max(dict.depth_, value.depth_);
  TC_RETURN_IF_ERROR(CheckDepth(++dict.depth_));
  dict.value_ = std::make_shared<const JinjaEntries>(std::move(entries));
  return dict;
}

const JinjaText* JinjaValue::AsText() const { return PointerIn<JinjaText>(value_); }
const JinjaList* JinjaValue::AsList() const { return PointerIn<JinjaList>(value_); }
const JinjaEntries* JinjaValue::AsDict() const { return PointerIn<JinjaEntries>(value_); }
const JinjaLoop* JinjaValue::AsLoop() const { return PointerIn<JinjaLoop>(value_); }

JinjaNamespace* JinjaValue::AsNamespace() const {
  const auto* held = std::get_if<JinjaNamespace*>(&value_);
  return held == nullptr ? nullptr : *held;
}

const JinjaMacro* JinjaValue::AsMacro() const {
  const auto* held = std::get_if<const JinjaMacro*>(&value_);
  return held == nullptr ? nullptr : *held;
}

std::optional<JinjaFunction> JinjaValue::AsFunction() const {
  const auto* held = std::get_if<JinjaFunction>(&value_);
  return held == nullptr ? std::nullopt : std::optional(*held);
}

int64_t JinjaValue::AsInteger() const {
  return IsBool() ? std::get<bool>(value_) : std::get<int64_t>(value_);
}

double JinjaValue::AsDouble() const {
  return IsInteger() ? static_cast<double>(AsInteger()) : std::get<double>(value_);
}

std::string_view JinjaValue::KindName() const {
  constexpr std::string_view kNames[] = {"undefined", "none", "boolean",   "integer", "float", "string",
                                         "list",      "dict", "namespace", "loop",    "macro", "function"};
  return kNames[value_.index()];
}

std::string JinjaValue::UndefinedName() const {
  return fmt::format("{} is undefined", std::get<JinjaUndefined>(value_).what);
}

bool JinjaValue::IsTrue() const {
  if (IsUndefined() || IsNone()) return false;
  if (IsNumber()) return AsDouble() != 0;
  if (const JinjaText* text = AsText()) return !text->empty();
  if (const JinjaList* list = AsList()) return !list->empty();
  if (const JinjaEntries* dict = AsDict()) return !dict->empty();
  return true;
}

const JinjaValue* FindJinjaEntry(const JinjaEntries& entries, std::string_view key) {
  const auto found = std::ranges::find_if(
      entries, [key](const auto& entry) { return entry.first.AsText()->bytes() == key; });
  return found == entries.end() ? nullptr : &found->second;
}

absl::StatusOr<bool> JinjaEqual(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget) {
  TC_RETURN_IF_ERROR(budget.Spend(1));
  if (a.IsInteger() && b.IsInteger()) return a.AsInteger() == b.AsInteger();
  if (a.IsNumber() && b.IsNumber()) return a.AsDouble() == b.AsDouble();
  if (a.AsText() != nullptr && b.AsText() != nullptr) {
    const std::string &left = a.AsText()->bytes(), &right = b.AsText()->bytes();
    if (left.size() != right.size()) return false;
    TC_RETURN_IF_ERROR(budget.SpendBytes(left.size()));
    return left == right;
  }
  if (a.AsList() != nullptr && b.AsList() != nullptr) {
    const JinjaList &left = *a.AsList(), &right = *b.AsList();
    if (left.size() != right.size()) return false;
    for (size_t i = 0; i < left.size(); ++i) {
      TC_ASSIGN_OR_RETURN(const bool same, JinjaEqual(left[i], right[i], budget));
      if (!same) return false;
    }
    return true;
  }
  if (a.AsDict() != nullptr && b.AsDict() != nullptr) {
    const JinjaEntries &left = *a.AsDict(), &right = *b.AsDict();
    if (left.size() != right.size()) return false;
    for (const auto& [key, value] : left) {
      TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(right.size())));
      const JinjaValue* other = FindJinjaEntry(right, key.AsText()->bytes());
      if (other == nullptr) return false;
      TC_ASSIGN_OR_RETURN(const bool same, JinjaEqual(value, *other, budget));
      if (!same) return false;
    }
    return true;
  }
  if (a.AsNamespace() != nullptr) return a.AsNamespace() == b.AsNamespace();
  return (a.IsNone() && b.IsNone()) || (a.IsUndefined() && b.IsUndefined());
}

absl::StatusOr<int> JinjaCompare(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget) {
  if (a.IsInteger() && b.IsInteger())
    return (a.AsInteger() > b.AsInteger()) - (a.AsInteger() < b.AsInteger());
  if (a.IsNumber() && b.IsNumber()) return (a.AsDouble() > b.AsDouble()) - (a.AsDouble() < b.AsDouble());
  if (a.AsText() != nullptr && b.AsText() != nullptr) {
    TC_RETURN_IF_ERROR(budget.SpendBytes(std::min(a.AsText()->size(), b.AsText()->size())));
    return a.AsText()->bytes().compare(b.AsText()->bytes());
  }
  return FailedPrecondition("{} and {} have no order", a.KindName(), b.KindName());
}

absl::StatusOr<bool> JinjaContains(const JinjaValue& container, const JinjaValue& element,
                                   JinjaBudget& budget) {
  if (const JinjaText* text = container.AsText()) {
    const JinjaText* part = element.AsText();
    if (part == nullptr)
      return FailedPrecondition("a string holds strings only, not a {}", element.KindName());
    // Of a long part every byte may be looked at again and again.
    TC_RETURN_IF_ERROR(budget.SpendBytes(text->size() * (1 + part->size() / 64)));
    return text->bytes().find(part->bytes()) != std::string::npos;
  }
  if (const JinjaEntries* dict = container.AsDict()) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(dict->size())));
    return element.AsText() != nullptr && FindJinjaEntry(*dict, element.AsText()->bytes()) != nullptr;
  }
  TC_ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(container, budget));
  for (const JinjaValue& candidate : elements) {
    TC_ASSIGN_OR_RETURN(const bool same, JinjaEqual(candidate, element, budget));
    if (same) return true;
  }
  return false;
}

absl::StatusOr<JinjaList> JinjaElements(const JinjaValue& value, JinjaBudget& budget) {
  JinjaList elements;
  if (const JinjaList* list = value.AsList()) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(list->size())));
    elements = *list;
  } else if (const JinjaEntries* dict = value.AsDict()) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(dict->size())));
    for (const auto& [key, unused] : *dict) elements.push_back(key);
  } else if (const JinjaText* text = value.AsText()) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(text->size())));
    for (size_t position = 0; position < text->size();) {
      const size_t length = JinjaCodePointBytes(text->bytes(), position);
      elements.emplace_back(text->Substring(position, length));
      position += length;
    }
  } else if (!value.IsUndefined()) {
    return FailedPrecondition("a {} has no elements", value.KindName());
  }
  return elements;
}

}  // namespace thermocline
