// Numbers as Python calculates, slices as Python cuts.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_operators.h"

#include <algorithm>
#include <cmath>

namespace thermocline {
namespace {

using Result = absl::StatusOr<JinjaValue>;

Result OfIntegers(std::string_view operation, int64_t left, int64_t right) {
  int64_t result = 0;
  bool overflows = false;
  if (operation == "+") {
    overflows = __builtin_add_overflow(left, right, &result);
  } else if (operation == "-") {
    overflows = __builtin_sub_overflow(left, right, &result);
  } else if (operation == "*") {
    overflows = __builtin_mul_overflow(left, right, &result);
  } else if (right == 0) {
    return FailedPrecondition("division by 0");
  } else if (operation == "/") {
    return static_cast<double>(left) / static_cast<double>(right);
  } else if (right == -1) {
    overflows = operation == "//" && left == INT64_MIN;
    result = operation == "//" && !overflows ? -left : 0;
  } else {
    // Python rounds quotients down, and remainders have the divisor's sign.
    const bool rounds = left % right != 0 && (left < 0) != (right < 0);
    result = operation == "//" ? left / right - (rounds ? 1 : 0) : left % right + (rounds ? right : 0);
  }
  if (overflows) return FailedPrecondition("an integer does not fit into 64 bits");
  return result;
}

Result OfFloats(std::string_view operation, double left, double right) {
  if (operation == "+") return left + right;
  if (operation == "-") return left - right;
  if (operation == "*") return left * right;
  if (right == 0) return FailedPrecondition("division by 0");
  if (operation == "/") return left / right;
  if (operation == "//") return std::floor(left / right);
  const double remainder = std::fmod(left, right);
  return remainder != 0 && (remainder < 0) != (right < 0) ? remainder + right : remainder;
}

}  // namespace

absl::StatusOr<JinjaValue> JinjaArithmetic(std::string_view operation, const JinjaValue& left,
                                           const JinjaValue& right, JinjaBudget& budget) {
  for (const JinjaValue* operand : {&left, &right}) {
    if (operand->IsUndefined()) return FailedPrecondition("{}", operand->UndefinedName());
  }
  if (left.IsInteger() && right.IsInteger())
    return OfIntegers(operation, left.AsInteger(), right.AsInteger());
  if (left.IsNumber() && right.IsNumber()) return OfFloats(operation, left.AsDouble(), right.AsDouble());
  if (operation == "+" && left.AsText() != nullptr && right.AsText() != nullptr) {
    TC_RETURN_IF_ERROR(budget.SpendText(left.AsText()->size() + right.AsText()->size()));
    JinjaText sum = *left.AsText();
    sum.Append(*right.AsText());
    return sum;
  }
  if (operation == "+" && left.AsList() != nullptr && right.AsList() != nullptr) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(left.AsList()->size() + right.AsList()->size())));
    JinjaList sum = *left.AsList();
    sum.insert(sum.end(), right.AsList()->begin(), right.AsList()->end());
    return JinjaValue::List(std::move(sum));
  }
  return FailedPrecondition("{} {} {} is not supported", left.KindName(), operation, right.KindName());
}

absl::StatusOr<JinjaValue> JinjaSlice(const JinjaValue& object, std::optional<int64_t> start,
                                      std::optional<int64_t> stop, int64_t step, JinjaBudget& budget) {
  if (object.IsUndefined()) return FailedPrecondition("{}", object.UndefinedName());
  const JinjaText* text = object.AsText();
  const JinjaList* list = object.AsList();
  if (text == nullptr && list == nullptr)
    return FailedPrecondition("a {} cannot be sliced", object.KindName());
  if (step == 0) return FailedPrecondition("a slice's step is 0");
  std::vector<size_t> points;
  if (text != nullptr) {
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(1 + text->size() / 8)));
    points = JinjaCodePoints(text->bytes());
  }
  const auto size = static_cast<int64_t>(text != nullptr ? points.size() - 1 : list->size());

  // Python clamps both ends into the sequence, one further for a step back.
  const int64_t least = step > 0 ? 0 : -1, most = step > 0 ? size : size - 1;
  const auto clamp = [&](std::optional<int64_t> bound, int64_t fallback) {
    if (!bound) return fallback;
    return std::clamp(*bound < 0 ? *bound + size : *bound, least, most);
  };
  int64_t at = clamp(start, step > 0 ? least : most);
  const int64_t end = clamp(stop, step > 0 ? most : least);
  if (text != nullptr && step == 1) {
    const size_t begin_byte = points[static_cast<size_t>(at)];
    return text->Substring(begin_byte, points[static_cast<size_t>(std::max(at, end))] - begin_byte);
  }
  JinjaText cut;
  JinjaList elements;
  while (step > 0 ? at < end : at > end) {
    TC_RETURN_IF_ERROR(budget.Spend(1));
    const auto i = static_cast<size_t>(at);
    if (text != nullptr) {
      cut.Append(text->Substring(points[i], points[i + 1] - points[i]));
    } else {
      elements.push_back((*list)[i]);
    }
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  if (text != nullptr) return cut;
  return JinjaValue::List(std::move(elements));
}

absl::StatusOr<JinjaValue> JinjaRange(const JinjaCall& call, JinjaBudget& budget) {
  const size_t count = call.positional.size();
  if (count < 1 || count > 3 || !call.keywords.empty() ||
      !std::ranges::all_of(call.positional, [](const JinjaValue& value) { return value.IsInteger(); })) {
    return FailedPrecondition("range takes one to three integers");
  }
  int64_t at = count > 1 ? call.positional[0].AsInteger() : 0;
  const int64_t stop = call.positional[count > 1 ? 1 : 0].AsInteger();
  const int64_t step = count > 2 ? call.positional[2].AsInteger() : 1;
  if (step == 0) return FailedPrecondition("range takes no step of 0");
  JinjaList numbers;
  while (step > 0 ? at < stop : at > stop) {
    TC_RETURN_IF_ERROR(budget.Spend(1));
    numbers.emplace_back(at);
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  return JinjaValue::List(std::move(numbers));
}

}  // namespace thermocline
