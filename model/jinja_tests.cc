// What `is` asks.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "model/jinja_arguments.h"
#include "model/jinja_builtins.h"
#include "model/printable.h"

namespace thermocline {
namespace {

constexpr std::string_view kPlain[] = {"boolean",  "callable", "defined", "even",     "false",  "float",
                                       "integer",  "iterable", "mapping", "none",     "number", "odd",
                                       "sequence", "string",   "true",    "undefined"};
constexpr std::string_view kWithArgument[] = {"!=", "<",           "<=", "==",       "=",  ">",
                                              ">=", "divisibleby", "eq", "equalto",  "ge", "greaterthan",
                                              "gt", "in",          "le", "lessthan", "lt", "ne"};

bool IsPlain(std::string_view name, const JinjaValue& input) {
  if (name == "defined") return !input.IsUndefined();
  if (name == "undefined") return input.IsUndefined();
  if (name == "none") return input.IsNone();
  if (name == "boolean") return input.IsBool();
  if (name == "true") return input.IsBool() && input.AsInteger() != 0;
  if (name == "false") return input.IsBool() && input.AsInteger() == 0;
  if (name == "integer") return input.IsInteger() && !input.IsBool();
  if (name == "float") return input.IsNumber() && !input.IsInteger();
  if (name == "number") return input.IsNumber();
  if (name == "string") return input.AsText() != nullptr;
  if (name == "mapping") return input.AsDict() != nullptr;
  if (name == "callable") return input.AsMacro() != nullptr || input.AsFunction().has_value();
  // "iterable" and "sequence"
  return input.AsText() != nullptr || input.AsList() != nullptr || input.AsDict() != nullptr ||
         input.IsUndefined();
}

absl::StatusOr<bool> HoldsAgainst(std::string_view name, const JinjaValue& input, const JinjaValue& other,
                                  JinjaBudget& budget) {
  if (name == "==" || name == "=" || name == "eq" || name == "equalto")
    return JinjaEqual(input, other, budget);
  if (name == "!=" || name == "ne") {
    TC_ASSIGN_OR_RETURN(const bool same, JinjaEqual(input, other, budget));
    return !same;
  }
  if (name == "in") return JinjaContains(other, input, budget);
  if (name == "divisibleby") {
    if (!input.IsInteger() || !other.IsInteger() || other.AsInteger() == 0) {
      return FailedPrecondition("divisibleby takes integers other than 0");
    }
    return other.AsInteger() == -1 || input.AsInteger() % other.AsInteger() == 0;
  }
  TC_ASSIGN_OR_RETURN(const int order, JinjaCompare(input, other, budget));
  if (name == "<" || name == "lt" || name == "lessthan") return order < 0;
  if (name == "<=" || name == "le") return order <= 0;
  if (name == ">" || name == "gt" || name == "greaterthan") return order > 0;
  return order >= 0;
}

}  // namespace

absl::StatusOr<bool> ApplyJinjaTest(std::string_view name, const JinjaValue& input, const JinjaCall& call,
                                    JinjaBudget& budget) {
  TC_RETURN_IF_ERROR(budget.Spend(1));
  constexpr std::string_view kParameters[] = {"other"};
  if (std::ranges::count(kWithArgument, name) > 0) {
    TC_ASSIGN_OR_RETURN(const JinjaBound bound, BindJinjaArguments(name, call, kParameters, 1));
    return HoldsAgainst(name, input, *bound[0], budget);
  }
  if (std::ranges::count(kPlain, name) == 0)
    return FailedPrecondition("the test '{}' is not supported", Printable(name));
  TC_RETURN_IF_ERROR(BindJinjaArguments(name, call, {}, 0).status());
  if (name == "odd" || name == "even") {
    if (!input.IsInteger())
      return FailedPrecondition("{} takes an integer, not a {}", name, input.KindName());
    return (input.AsInteger() % 2 == 0) == (name == "even");
  }
  return IsPlain(name, input);
}

}  // namespace thermocline
