// Filters, methods, attributes and indices.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_builtins.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "model/jinja_arguments.h"
#include "model/jinja_strings.h"
#include "model/printable.h"

namespace thermocline {
namespace {

using Bound = JinjaBound;
using Result = absl::StatusOr<JinjaValue>;

Result Length(const JinjaValue& input, JinjaBudget& budget) {
  if (const JinjaText* text = input.AsText()) {
    TC_RETURN_IF_ERROR(budget.SpendBytes(text->size()));
    return static_cast<int64_t>(JinjaCodePoints(text->bytes()).size()) - 1;
  }
  if (const JinjaList* list = input.AsList()) return static_cast<int64_t>(list->size());
  if (const JinjaEntries* dict = input.AsDict()) return static_cast<int64_t>(dict->size());
  if (input.IsUndefined()) return int64_t{0};
  return FailedPrecondition("a {} has no length", input.KindName());
}

Result Items(const JinjaValue& input, JinjaBudget& budget) {
  JinjaList items;
  if (const JinjaEntries* dict = input.AsDict()) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(dict->size())));
    for (const auto& [key, value] : *dict) {
      TC_ASSIGN_OR_RETURN(JinjaValue item, JinjaValue::List({key, value}));
      items.push_back(std::move(item));
    }
  } else if (!input.IsUndefined()) {
    return FailedPrecondition("a {} has no items", input.KindName());
  }
  return JinjaValue::List(std::move(items));
}

Result FirstOrLast(const JinjaValue& input, bool last, JinjaBudget& budget) {
  TC_ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(input, budget));
  if (elements.empty())
    return JinjaUndefined{last ? "the last element of nothing" : "the first element of nothing"};
  return last ? elements.back() : elements.front();
}

Result Integer(const JinjaValue& input, const JinjaValue* fallback) {
  if (input.IsInteger()) return input.AsInteger();
  if (input.IsNumber() && std::abs(input.AsDouble()) < 9e18) return static_cast<int64_t>(input.AsDouble());
  if (const JinjaText* text = input.AsText()) {
    std::string_view bytes = text->bytes();
    bytes.remove_prefix(JinjaSpaceBefore(bytes));
    bytes.remove_suffix(JinjaSpaceAfter(bytes));
    if (bytes.starts_with('+')) bytes.remove_prefix(1);
    int64_t number = 0;
    const auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), number);
    if (error == std::errc() && end == bytes.data() + bytes.size()) return number;
  }
  return fallback == nullptr ? JinjaValue(int64_t{0}) : *fallback;
}

Result ToJson(const JinjaValue& input, const Bound& bound, JinjaBudget& budget) {
  constexpr int64_t kMostIndent = 16;
  int64_t indent = -1;
  if (bound[0] != nullptr && !bound[0]->IsNone()) {
    if (!bound[0]->IsInteger() || bound[0]->AsInteger() < 0 || bound[0]->AsInteger() > kMostIndent) {
      return FailedPrecondition("tojson takes an indent in [0, {}]", kMostIndent);
    }
    indent = bound[0]->AsInteger();
  }
  if (bound[1] != nullptr && bound[1]->IsTrue())
    return FailedPrecondition("tojson with ensure_ascii is not supported");
  return JinjaToJson(input, indent, budget);
}

// What filters and methods of strings have in common.
Result StringFilter(std::string_view name, const JinjaText& text, const Bound& bound, JinjaBudget& budget) {
  TC_RETURN_IF_ERROR(budget.SpendText(text.size()));
  if (name == "upper") return JinjaChangeCase(text, JinjaCase::kUpper);
  if (name == "lower") return JinjaChangeCase(text, JinjaCase::kLower);
  if (name == "capitalize") return JinjaChangeCase(text, JinjaCase::kCapitalized);
  if (name == "title") return JinjaChangeCase(text, JinjaCase::kTitle);
  if (name == "replace") {
    TC_ASSIGN_OR_RETURN(const JinjaText from, JinjaToText(*bound[0], budget));
    TC_ASSIGN_OR_RETURN(const JinjaText to, JinjaToText(*bound[1], budget));
    const bool counted = bound[2] != nullptr && bound[2]->IsInteger();
    return JinjaReplace(text, from, to, counted ? bound[2]->AsInteger() : -1, budget);
  }
  const JinjaText* characters = nullptr;
  if (bound[0] != nullptr && !bound[0]->IsNone()) {
    TC_ASSIGN_OR_RETURN(characters, JinjaTextArgument(name, *bound[0]));
  }
  return JinjaStrip(text, characters, name != "rstrip", name != "lstrip", budget);
}

struct Signature {
  std::string_view name;
  std::array<std::string_view, 3> parameters;
  size_t most;
  size_t required;
};

constexpr Signature kFilters[] = {
    {"abs", {}, 0, 0},
    {"capitalize", {}, 0, 0},
    {"count", {}, 0, 0},
    {"d", {"default_value", "boolean"}, 2, 0},
    {"default", {"default_value", "boolean"}, 2, 0},
    {"first", {}, 0, 0},
    {"int", {"default"}, 1, 0},
    {"items", {}, 0, 0},
    {"join", {"d", "attribute"}, 2, 0},
    {"last", {}, 0, 0},
    {"length", {}, 0, 0},
    {"list", {}, 0, 0},
    {"lower", {}, 0, 0},
    {"replace", {"old", "new", "count"}, 3, 2},
    {"reverse", {}, 0, 0},
    {"safe", {}, 0, 0},
    {"string", {}, 0, 0},
    {"title", {}, 0, 0},
    {"tojson", {"indent", "ensure_ascii"}, 2, 0},
    {"trim", {"chars"}, 1, 0},
    {"upper", {}, 0, 0},
};

constexpr Signature kStringMethods[] = {
    {"capitalize", {}, 0, 0},
    {"count", {"sub"}, 1, 1},
    {"endswith", {"suffix"}, 1, 1},
    {"find", {"sub"}, 1, 1},
    {"join", {"iterable"}, 1, 1},
    {"lower", {}, 0, 0},
    {"lstrip", {"chars"}, 1, 0},
    {"replace", {"old", "new", "count"}, 3, 2},
    {"rstrip", {"chars"}, 1, 0},
    {"split", {"sep", "maxsplit"}, 2, 0},
    {"startswith", {"prefix"}, 1, 1},
    {"strip", {"chars"}, 1, 0},
    {"upper", {}, 0, 0},
};

constexpr Signature kDictMethods[] = {
    {"get", {"key", "default"}, 2, 1},
    {"items", {}, 0, 0},
    {"keys", {}, 0, 0},
    {"values", {}, 0, 0},
};

// The arguments of the call; nullopt where no such name is in the table.
absl::StatusOr<std::optional<Bound>> BindBy(std::span<const Signature> table, std::string_view name,
                                            const JinjaCall& call) {
  const auto found = std::ranges::find(table, name, &Signature::name);
  if (found == table.end()) return std::nullopt;
  return BindJinjaArguments(name, call, std::span(found->parameters).first(found->most), found->required);
}

bool IsForEach(std::string_view name) {
  constexpr std::string_view kNames[] = {"map", "reject", "rejectattr", "select", "selectattr"};
  return std::ranges::count(kNames, name) > 0;
}

// What they apply stands in their arguments.
Result ApplyToEach(std::string_view name, const JinjaValue& input, const JinjaCall& call,
                   JinjaBudget& budget) {
  TC_ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(input, budget));
  const bool by_attribute = name.ends_with("attr");
  JinjaCall inner = call;
  std::string attribute, applied;
  const auto take_name = [&](std::string& taken) -> absl::Status {
    if (inner.positional.empty()) return FailedPrecondition("{} needs a name to apply", name);
    TC_ASSIGN_OR_RETURN(const JinjaText* text, JinjaTextArgument(name, inner.positional.front()));
    taken = text->bytes();
    inner.positional.erase(inner.positional.begin());
    return absl::OkStatus();
  };
  if (by_attribute) TC_RETURN_IF_ERROR(take_name(attribute));
  const bool by_keyword = name == "map" && inner.positional.empty();
  if (by_keyword) {
    if (inner.keywords.size() != 1 || inner.keywords.front().first != "attribute") {
      return FailedPrecondition("map takes a filter's name, or attribute=");
    }
    TC_ASSIGN_OR_RETURN(const JinjaText* text, JinjaTextArgument(name, inner.keywords.front().second));
    attribute = text->bytes();
  } else if (!inner.positional.empty()) {
    TC_RETURN_IF_ERROR(take_name(applied));
  }
  // Recursion would go as deep as a call has arguments.
  if (IsForEach(applied)) return FailedPrecondition("{} cannot apply {}", name, applied);
  JinjaList results;
  for (const JinjaValue& element : elements) {
    JinjaValue subject = element;
    if (!attribute.empty()) {
      TC_ASSIGN_OR_RETURN(subject, JinjaAttribute(element, attribute, budget));
    }
    if (by_keyword) {
      results.push_back(std::move(subject));
    } else if (name == "map") {
      TC_ASSIGN_OR_RETURN(JinjaValue mapped, ApplyJinjaFilter(applied, subject, inner, budget));
      results.push_back(std::move(mapped));
    } else {
      bool holds = subject.IsTrue();
      if (!applied.empty()) {
        TC_ASSIGN_OR_RETURN(holds, ApplyJinjaTest(applied, subject, inner, budget));
      }
      if (holds == name.starts_with("select")) results.push_back(element);
    }
  }
  return JinjaValue::List(std::move(results));
}

Result Filter(std::string_view name, const JinjaValue& input, const Bound& bound, JinjaBudget& budget) {
  if (name == "length" || name == "count") return Length(input, budget);
  if (name == "default" || name == "d") {
    const bool replaces =
        input.IsUndefined() || (bound[1] != nullptr && bound[1]->IsTrue() && !input.IsTrue());
    if (!replaces) return input;
    return bound[0] == nullptr ? JinjaValue(JinjaText()) : *bound[0];
  }
  if (name == "first" || name == "last") return FirstOrLast(input, name == "last", budget);
  if (name == "tojson") return ToJson(input, bound, budget);
  if (name == "items") return Items(input, budget);
  if (name == "int") return Integer(input, bound[0]);
  if (name == "abs") {
    if (input.IsInteger() && input.AsInteger() != INT64_MIN) return std::abs(input.AsInteger());
    if (input.IsNumber()) return std::abs(input.AsDouble());
    return FailedPrecondition("abs takes a number, not a {}", input.KindName());
  }
  if (name == "list" || name == "join" || (name == "reverse" && input.AsText() == nullptr)) {
    TC_ASSIGN_OR_RETURN(JinjaList elements, JinjaElements(input, budget));
    if (name == "reverse") std::ranges::reverse(elements);
    if (name != "join") return JinjaValue::List(std::move(elements));
    if (bound[1] != nullptr) {
      TC_ASSIGN_OR_RETURN(const JinjaText* attribute, JinjaTextArgument(name, *bound[1]));
      for (JinjaValue& element : elements) {
        TC_ASSIGN_OR_RETURN(element, JinjaAttribute(element, attribute->bytes(), budget));
      }
    }
    TC_ASSIGN_OR_RETURN(const JinjaText separator,
                        bound[0] == nullptr ? JinjaText() : JinjaToText(*bound[0], budget));
    return JinjaJoin(separator, elements, budget);
  }
  // The others work on text, and make text of what is none.
  TC_ASSIGN_OR_RETURN(JinjaText text, JinjaToText(input, budget));
  if (name == "string" || name == "safe") return text;
  if (name == "reverse") {
    TC_ASSIGN_OR_RETURN(JinjaList letters, JinjaElements(input, budget));
    std::ranges::reverse(letters);
    return JinjaJoin(JinjaText(), letters, budget);
  }
  return StringFilter(name, text, bound, budget);
}

Result StringMethod(std::string_view name, const JinjaText& text, const Bound& bound, JinjaBudget& budget) {
  if (name == "split") {
    const JinjaText* separator = nullptr;
    if (bound[0] != nullptr && !bound[0]->IsNone()) {
      TC_ASSIGN_OR_RETURN(separator, JinjaTextArgument(name, *bound[0]));
    }
    const bool counted = bound[1] != nullptr && bound[1]->IsInteger();
    return JinjaSplit(text, separator, counted ? bound[1]->AsInteger() : -1, budget);
  }
  if (name == "join") {
    TC_ASSIGN_OR_RETURN(const JinjaList elements, JinjaElements(*bound[0], budget));
    return JinjaJoin(text, elements, budget);
  }
  if (name == "startswith" || name == "endswith") {
    // One string, or any of several.
    JinjaList candidates = {*bound[0]};
    if (const JinjaList* list = bound[0]->AsList()) candidates = *list;
    for (const JinjaValue& candidate : candidates) {
      TC_ASSIGN_OR_RETURN(const JinjaText* part, JinjaTextArgument(name, candidate));
      TC_RETURN_IF_ERROR(budget.SpendBytes(part->size()));
      const bool holds = name == "startswith" ? text.bytes().starts_with(part->bytes())
                                              : text.bytes().ends_with(part->bytes());
      if (holds) return true;
    }
    return false;
  }
  if (name == "find" || name == "count") {
    TC_ASSIGN_OR_RETURN(const JinjaText* part, JinjaTextArgument(name, *bound[0]));
    if (part->empty()) return FailedPrecondition("{} takes no empty string", name);
    TC_RETURN_IF_ERROR(budget.SpendBytes(text.size() * (1 + part->size() / 64)));
    size_t at = text.bytes().find(part->bytes());
    if (name == "find") {
      if (at == std::string::npos) return int64_t{-1};
      return static_cast<int64_t>(JinjaCodePoints(std::string_view(text.bytes()).substr(0, at)).size()) - 1;
    }
    int64_t count = 0;
    for (; at != std::string::npos; at = text.bytes().find(part->bytes(), at + part->size())) ++count;
    return count;
  }
  return StringFilter(name, text, bound, budget);
}

Result DictMethod(std::string_view name, const JinjaValue& dict, const Bound& bound, JinjaBudget& budget) {
  if (name == "items") return Items(dict, budget);
  TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(dict.AsDict()->size())));
  if (name == "get") {
    const JinjaValue* found = nullptr;
    if (bound[0]->AsText() != nullptr) found = FindJinjaEntry(*dict.AsDict(), bound[0]->AsText()->bytes());
    if (found != nullptr) return *found;
    return bound[1] == nullptr ? JinjaValue(JinjaNone()) : *bound[1];
  }
  JinjaList parts;
  for (const auto& [key, value] : *dict.AsDict()) parts.push_back(name == "keys" ? key : value);
  return JinjaValue::List(std::move(parts));
}

Result LoopAttribute(const JinjaLoop& loop, std::string_view name) {
  const JinjaList& elements = *loop.elements.AsList();
  const auto index = static_cast<int64_t>(loop.index);
  const auto length = static_cast<int64_t>(elements.size());
  if (name == "index") return index + 1;
  if (name == "index0") return index;
  if (name == "revindex") return length - index;
  if (name == "revindex0") return length - index - 1;
  if (name == "first") return index == 0;
  if (name == "last") return index + 1 == length;
  if (name == "length") return length;
  if (name == "previtem" && index > 0) return elements[loop.index - 1];
  if (name == "nextitem" && index + 1 < length) return elements[loop.index + 1];
  return JinjaUndefined{fmt::format("'loop.{}'", Printable(name))};
}

}  // namespace

absl::StatusOr<JinjaValue> ApplyJinjaFilter(std::string_view name, const JinjaValue& input,
                                            const JinjaCall& call, JinjaBudget& budget) {
  TC_RETURN_IF_ERROR(budget.Spend(1));
  if (IsForEach(name)) return ApplyToEach(name, input, call, budget);
  TC_ASSIGN_OR_RETURN(const std::optional<Bound> bound, BindBy(kFilters, name, call));
  if (!bound) return FailedPrecondition("the filter '{}' is not supported", Printable(name));
  return Filter(name, input, *bound, budget);
}

absl::StatusOr<JinjaValue> CallJinjaMethod(const JinjaValue& object, std::string_view name,
                                           const JinjaCall& call, JinjaBudget& budget) {
  if (object.IsUndefined()) return FailedPrecondition("{}", object.UndefinedName());
  const JinjaText* text = object.AsText();
  std::span<const Signature> table;
  if (text != nullptr) table = kStringMethods;
  if (object.AsDict() != nullptr) table = kDictMethods;
  TC_ASSIGN_OR_RETURN(const std::optional<Bound> bound, BindBy(table, name, call));
  if (!bound) return FailedPrecondition("the method '{}' of a {} is not supported", name, object.KindName());
  return text != nullptr ? StringMethod(name, *text, *bound, budget)
                         : DictMethod(name, object, *bound, budget);
}

absl::StatusOr<JinjaValue> JinjaAttribute(const JinjaValue& object, std::string_view name,
                                          JinjaBudget& budget) {
  if (object.IsUndefined()) return FailedPrecondition("{}", object.UndefinedName());
  if (const JinjaLoop* loop = object.AsLoop()) return LoopAttribute(*loop, name);
  const JinjaEntries* entries = object.AsDict();
  if (const JinjaNamespace* fields = object.AsNamespace()) entries = &fields->entries;
  if (entries != nullptr) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(entries->size() / 8)));
    if (const JinjaValue* found = FindJinjaEntry(*entries, name)) return *found;
  }
  return JinjaUndefined{fmt::format("'{}'", Printable(name))};
}

absl::StatusOr<JinjaValue> JinjaSubscript(const JinjaValue& object, const JinjaValue& index,
                                          JinjaBudget& budget) {
  if (object.IsUndefined()) return FailedPrecondition("{}", object.UndefinedName());
  if (const JinjaText* name = index.AsText()) return JinjaAttribute(object, name->bytes(), budget);
  if (!index.IsInteger()) return JinjaUndefined{fmt::format("an element at a {}", index.KindName())};
  const auto resolve = [&index](size_t size) -> std::optional<size_t> {
    const auto signed_size = static_cast<int64_t>(size);
    const int64_t at = index.AsInteger();
    if (at >= signed_size || at < -signed_size) return std::nullopt;
    return static_cast<size_t>(at < 0 ? at + signed_size : at);
  };
  const JinjaUndefined missing{fmt::format("element {}", index.AsInteger())};
  if (const JinjaList* list = object.AsList()) {
    const std::optional<size_t> at = resolve(list->size());
    return at ? (*list)[*at] : JinjaValue(missing);
  }
  if (const JinjaText* text = object.AsText()) {
    TC_RETURN_IF_ERROR(budget.SpendBytes(text->size()));
    const std::vector<size_t> points = JinjaCodePoints(text->bytes());
    const std::optional<size_t> at = resolve(points.size() - 1);
    return at ? JinjaValue(text->Substring(points[*at], points[*at + 1] - points[*at])) : JinjaValue(missing);
  }
  return missing;
}

}  // namespace thermocline
