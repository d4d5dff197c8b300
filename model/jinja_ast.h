// The syntax tree of a Jinja template.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/jinja_value.h"

namespace thermocline {

struct JinjaExpression;
using JinjaExpressionPtr = std::unique_ptr<const JinjaExpression>;
using JinjaArguments = std::vector<std::pair<std::string, JinjaExpressionPtr>>;

struct JinjaExpression {
  enum class Kind {
    kConstant,     // constant
    kName,         // text
    kList,         // children: the elements; tuples too
    kDict,         // children: key, value, key, value, ...
    kAttribute,    // children: object; text: the attribute
    kSubscript,    // children: object, index
    kSlice,        // children: object, start, stop, step; null where left out
    kCall,         // children: what is called (a name or an attribute), arguments; keywords
    kFilter,       // text; children: input, arguments; keywords
    kTest,         // text; children: input, arguments; `is not` stands inside a kNot
    kNegate,       // children: one
    kNot,          // children: one
    kArithmetic,   // text: + - * / // %; children: two
    kConcatenate,  // children: two or more
    kCompare,      // children: two or more; operators between them: == != < <= > >= in, not in
    kAnd,          // children: two
    kOr,           // children: two
    kConditional,  // children: value, condition, otherwise (null where left out)
  };
  Kind kind = Kind::kConstant;
  int line = 1;
  int depth = 1;  // of the tree below
  std::string text;
  JinjaValue constant;
  std::vector<JinjaExpressionPtr> children;
  JinjaArguments keywords;
  std::vector<std::string> operators;
};

struct JinjaStatement;
using JinjaBody = std::vector<JinjaStatement>;

// A condition and what it guards.
struct JinjaBranch {
  JinjaExpressionPtr condition;  // null: else
  JinjaBody body;
};

struct JinjaMacro {
  std::string name;
  std::vector<std::pair<std::string, JinjaExpressionPtr>> parameters;  // and their defaults, or null
  JinjaBody body;
};

struct JinjaStatement {
  enum class Kind {
    kText,      // constant
    kOutput,    // expression
    kIf,        // branches
    kFor,       // targets; expression: what to go over; condition; body; otherwise: where there is nothing
    kSet,       // targets; expression
    kSetField,  // targets: the namespace and its field; expression
    kSetBlock,  // targets: one; body
    kMacro,     // macro
    kGroup,     // body
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  int line = 1;
  JinjaValue constant;
  std::vector<std::string> targets;
  JinjaExpressionPtr expression;
  JinjaExpressionPtr condition;
  std::vector<JinjaBranch> branches;
  JinjaBody body;
  JinjaBody otherwise;
  std::unique_ptr<const JinjaMacro> macro;
};

}  // namespace thermocline
