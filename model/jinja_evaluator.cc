// Walks the tree: expressions to values, statements to text.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_evaluator.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>

#include "model/jinja_builtins.h"
#include "model/jinja_lexer.h"
#include "model/jinja_operators.h"

namespace thermocline {
namespace {

using Expr = JinjaExpression;
using Kind = JinjaExpression::Kind;
using Result = absl::StatusOr<JinjaValue>;
using Statement = JinjaStatement;

// Of expressions in statements in macros. A level takes about a kilobyte of stack.
constexpr int kMostRecursion = 300;

// An error message of the template's own, as one line.
std::string OneLine(std::string_view text) {
  constexpr size_t kLimit = 400;
  std::string line;
  for (size_t at = 0; at < text.size();) {
    const size_t length = JinjaCodePointBytes(text, at);
    if (line.size() + length > kLimit) return line + "...";
    const auto first = static_cast<unsigned char>(text[at]);
    line += first < 0x20 || first == 0x7F ? " " : text.substr(at, length);
    at += length;
  }
  return line;
}

class Evaluator {
 public:
  Evaluator(const JinjaVariables& variables, const JinjaLimits& limits) : budget_(limits) {
    frames_.emplace_back();
    for (const auto& [name, value] : variables) frames_.back().emplace_back(name, value);
  }

  absl::StatusOr<JinjaText> Run(const JinjaBody& body) {
    const absl::Status status = Execute(body).status();
    if (!status.ok()) return AtJinjaLine(error_line_, status);
    return std::move(output_);
  }

 private:
  enum class Flow { kGoOn, kBreak, kContinue };
  using Frame = std::vector<std::pair<std::string_view, JinjaValue>>;

  // Counts how deep the walk is.
  class Level {
   public:
    explicit Level(Evaluator& evaluator) : evaluator_(evaluator) { ++evaluator_.level_; }
    ~Level() { --evaluator_.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Evaluator& evaluator_;
  };

  absl::Status CheckLevel() const {
    if (level_ <= kMostRecursion) return absl::OkStatus();
    return InvalidArgument("recursion is deeper than the limit of {}", kMostRecursion);
  }

  // ---- Variables ----

  // A macro sees its own frames and the outermost one.
  const JinjaValue* Find(std::string_view name) const {
    const auto in = [name](const Frame& frame) -> const JinjaValue* {
      const auto found = std::ranges::find(frame, name, &Frame::value_type::first);
      return found == frame.end() ? nullptr : &found->second;
    };
    for (size_t i = frames_.size(); i > first_frame_; --i) {
      if (const JinjaValue* found = in(frames_[i - 1])) return found;
    }
    return in(frames_.front());
  }

  JinjaValue Lookup(const std::string& name) const {
    if (const JinjaValue* found = Find(name)) return *found;
    if (name == "namespace") return JinjaFunction::kNamespace;
    if (name == "range") return JinjaFunction::kRange;
    if (name == "dict") return JinjaFunction::kDict;
    if (name == "raise_exception") return JinjaFunction::kRaiseException;
    return JinjaUndefined{fmt::format("'{}'", name)};
  }

  void Assign(std::string_view name, JinjaValue value) {
    Frame& frame = frames_.back();
    const auto found = std::ranges::find(frame, name, &Frame::value_type::first);
    if (found != frame.end()) {
      found->second = std::move(value);
    } else {
      frame.emplace_back(name, std::move(value));
    }
  }

  absl::Status AssignAll(const std::vector<std::string>& targets, JinjaValue value) {
    if (targets.size() == 1) {
      Assign(targets.front(), std::move(value));
      return absl::OkStatus();
    }
    TC_ASSIGN_OR_RETURN(JinjaList parts, JinjaElements(value, budget_));
    if (parts.size() != targets.size()) {
      return FailedPrecondition("{} values cannot be given to {} names", parts.size(), targets.size());
    }
    for (size_t i = 0; i < parts.size(); ++i) Assign(targets[i], std::move(parts[i]));
    return absl::OkStatus();
  }

  // ---- Statements ----

  absl::StatusOr<Flow> Execute(const JinjaBody& body) {
    for (const Statement& statement : body) {
      const Level level(*this);
      const absl::Status too_deep = CheckLevel();
      const absl::StatusOr<Flow> flow = too_deep.ok() ? ExecuteOne(statement) : too_deep;
      if (!flow.ok() && error_line_ == 0) error_line_ = statement.line;
      if (!flow.ok() || *flow != Flow::kGoOn) return flow;
    }
    return Flow::kGoOn;
  }

  absl::Status Print(const JinjaText& text) {
    TC_RETURN_IF_ERROR(budget_.SpendBytes(text.size()));
    TC_RETURN_IF_ERROR(budget_.CheckText(output_.size() + text.size()));
    output_.Append(text);
    return absl::OkStatus();
  }

  absl::StatusOr<Flow> ExecuteOne(const Statement& statement) {
    TC_RETURN_IF_ERROR(budget_.Spend(1));
    switch (statement.kind) {
      case Statement::Kind::kText:
        TC_RETURN_IF_ERROR(Print(*statement.constant.AsText()));
        return Flow::kGoOn;
      case Statement::Kind::kOutput: {
        TC_ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*statement.expression));
        if (const JinjaText* text = value.AsText()) {
          TC_RETURN_IF_ERROR(Print(*text));
        } else {
          TC_ASSIGN_OR_RETURN(const JinjaText text_of, JinjaToText(value, budget_));
          TC_RETURN_IF_ERROR(Print(text_of));
        }
        return Flow::kGoOn;
      }
      case Statement::Kind::kIf:
        for (const JinjaBranch& branch : statement.branches) {
          bool holds = true;
          if (branch.condition != nullptr) {
            TC_ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(*branch.condition));
            holds = condition.IsTrue();
          }
          if (holds) return Execute(branch.body);
        }
        return Flow::kGoOn;
      case Statement::Kind::kFor:
        return For(statement);
      case Statement::Kind::kSet: {
        TC_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*statement.expression));
        TC_RETURN_IF_ERROR(AssignAll(statement.targets, std::move(value)));
        return Flow::kGoOn;
      }
      case Statement::Kind::kSetField: {
        TC_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*statement.expression));
        TC_RETURN_IF_ERROR(SetField(statement.targets[0], statement.targets[1], std::move(value)));
        return Flow::kGoOn;
      }
      case Statement::Kind::kSetBlock: {
        TC_ASSIGN_OR_RETURN(JinjaText text, Captured(statement.body));
        Assign(statement.targets.front(), std::move(text));
        return Flow::kGoOn;
      }
      case Statement::Kind::kMacro:
        Assign(statement.macro->name, statement.macro.get());
        return Flow::kGoOn;
      case Statement::Kind::kGroup:
        return Execute(statement.body);
      case Statement::Kind::kBreak:
        return Flow::kBreak;
      case Statement::Kind::kContinue:
        return Flow::kContinue;
    }
    return Flow::kGoOn;
  }

  // What the body prints, in a scope of its own.
  absl::StatusOr<JinjaText> Captured(const JinjaBody& body) {
    JinjaText outside = std::exchange(output_, JinjaText());
    frames_.emplace_back();
    const absl::Status status = Execute(body).status();
    frames_.pop_back();
    std::swap(outside, output_);
    TC_RETURN_IF_ERROR(status);
    return outside;
  }

  absl::Status SetField(const std::string& name, const std::string& field, JinjaValue value) {
    JinjaNamespace* fields = Lookup(name).AsNamespace();
    if (fields == nullptr)
      return FailedPrecondition("'{}' is no namespace, so that no field of it can be set", name);
    TC_RETURN_IF_ERROR(budget_.Spend(static_cast<int64_t>(fields->entries.size() / 8)));
    for (auto& [key, held] : fields->entries) {
      if (key.AsText()->bytes() != field) continue;
      held = std::move(value);
      return absl::OkStatus();
    }
    fields->entries.emplace_back(JinjaText(field, JinjaOrigin::kTemplate), std::move(value));
    return absl::OkStatus();
  }

  absl::StatusOr<Flow> For(const Statement& statement) {
    TC_ASSIGN_OR_RETURN(const JinjaValue over, Evaluate(*statement.expression));
    TC_ASSIGN_OR_RETURN(JinjaList elements, JinjaElements(over, budget_));
    frames_.emplace_back();
    const absl::StatusOr<Flow> flow = Turns(statement, std::move(elements));
    frames_.pop_back();
    return flow;
  }

  // In a frame of the loop's own.
  absl::StatusOr<Flow> Turns(const Statement& statement, JinjaList elements) {
    if (statement.condition != nullptr) {
      JinjaList kept;
      for (JinjaValue& element : elements) {
        frames_.back().clear();
        TC_RETURN_IF_ERROR(AssignAll(statement.targets, element));
        TC_ASSIGN_OR_RETURN(const JinjaValue holds, Evaluate(*statement.condition));
        if (holds.IsTrue()) kept.push_back(std::move(element));
      }
      elements = std::move(kept);
      frames_.back().clear();
    }
    if (elements.empty()) return Execute(statement.otherwise);
    TC_ASSIGN_OR_RETURN(const JinjaValue list, JinjaValue::List(std::move(elements)));
    for (size_t i = 0; i < list.AsList()->size(); ++i) {
      TC_RETURN_IF_ERROR(budget_.Spend(1));
      frames_.back().clear();
      Assign("loop", std::make_shared<const JinjaLoop>(JinjaLoop{list, i}));
      TC_RETURN_IF_ERROR(AssignAll(statement.targets, (*list.AsList())[i]));
      TC_ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body));
      if (flow == Flow::kBreak) break;
    }
    return Flow::kGoOn;
  }

  // ---- Expressions ----

  Result Evaluate(const Expr& node) {
    const Level level(*this);
    const absl::Status too_deep = CheckLevel();
    Result result = too_deep.ok() ? EvaluateNode(node) : too_deep;
    if (!result.ok() && error_line_ == 0) error_line_ = node.line;
    return result;
  }

  Result EvaluateNode(const Expr& node) {
    TC_RETURN_IF_ERROR(budget_.Spend(1));
    switch (node.kind) {
      case Kind::kConstant:
        return node.constant;
      case Kind::kName:
        return Lookup(node.text);
      case Kind::kList: {
        JinjaList elements;
        for (const JinjaExpressionPtr& child : node.children) {
          TC_ASSIGN_OR_RETURN(JinjaValue element, Evaluate(*child));
          elements.push_back(std::move(element));
        }
        return JinjaValue::List(std::move(elements));
      }
      case Kind::kDict:
        return Dict(node);
      case Kind::kAttribute: {
        TC_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*node.children[0]));
        return JinjaAttribute(object, node.text, budget_);
      }
      case Kind::kSubscript: {
        TC_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*node.children[0]));
        TC_ASSIGN_OR_RETURN(const JinjaValue index, Evaluate(*node.children[1]));
        return JinjaSubscript(object, index, budget_);
      }
      case Kind::kSlice:
        return Slice(node);
      case Kind::kCall:
        return Call(node);
      case Kind::kFilter: {
        TC_ASSIGN_OR_RETURN(const JinjaValue input, Evaluate(*node.children[0]));
        TC_ASSIGN_OR_RETURN(const JinjaCall call, Arguments(node));
        return ApplyJinjaFilter(node.text, input, call, budget_);
      }
      case Kind::kTest: {
        TC_ASSIGN_OR_RETURN(const JinjaValue input, Evaluate(*node.children[0]));
        TC_ASSIGN_OR_RETURN(const JinjaCall call, Arguments(node));
        TC_ASSIGN_OR_RETURN(const bool holds, ApplyJinjaTest(node.text, input, call, budget_));
        return holds;
      }
      case Kind::kNegate: {
        TC_ASSIGN_OR_RETURN(const JinjaValue operand, Evaluate(*node.children[0]));
        return JinjaArithmetic("-", int64_t{0}, operand, budget_);
      }
      case Kind::kNot: {
        TC_ASSIGN_OR_RETURN(const JinjaValue operand, Evaluate(*node.children[0]));
        return !operand.IsTrue();
      }
      case Kind::kArithmetic: {
        TC_ASSIGN_OR_RETURN(const JinjaValue left, Evaluate(*node.children[0]));
        TC_ASSIGN_OR_RETURN(const JinjaValue right, Evaluate(*node.children[1]));
        return JinjaArithmetic(node.text, left, right, budget_);
      }
      case Kind::kConcatenate: {
        JinjaText all;
        for (const JinjaExpressionPtr& child : node.children) {
          TC_ASSIGN_OR_RETURN(const JinjaValue value, Evaluate(*child));
          TC_ASSIGN_OR_RETURN(const JinjaText text, JinjaToText(value, budget_));
          TC_RETURN_IF_ERROR(budget_.SpendText(all.size() + text.size()));
          all.Append(text);
        }
        return all;
      }
      case Kind::kCompare:
        return Compare(node);
      case Kind::kAnd:
      case Kind::kOr: {
        TC_ASSIGN_OR_RETURN(JinjaValue left, Evaluate(*node.children[0]));
        if (left.IsTrue() == (node.kind == Kind::kOr)) return left;
        return Evaluate(*node.children[1]);
      }
      case Kind::kConditional: {
        TC_ASSIGN_OR_RETURN(const JinjaValue condition, Evaluate(*node.children[1]));
        if (condition.IsTrue()) return Evaluate(*node.children[0]);
        if (node.children[2] != nullptr) return Evaluate(*node.children[2]);
        return JinjaUndefined{"what a condition without else leaves out"};
      }
    }
    return JinjaValue();
  }

  Result Dict(const Expr& node) {
    JinjaEntries entries;
    for (size_t i = 0; i < node.children.size(); i += 2) {
      TC_ASSIGN_OR_RETURN(JinjaValue key, Evaluate(*node.children[i]));
      TC_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*node.children[i + 1]));
      if (key.AsText() == nullptr)
        return FailedPrecondition("a dict's key is a {}, not a string", key.KindName());
      TC_RETURN_IF_ERROR(SetEntry(std::move(key), std::move(value), entries));
    }
    return JinjaValue::Dict(std::move(entries));
  }

  // A key that is there keeps its place.
  absl::Status SetEntry(JinjaValue key, JinjaValue value, JinjaEntries& entries) {
    TC_RETURN_IF_ERROR(budget_.Spend(static_cast<int64_t>(entries.size() / 8)));
    const auto found = std::ranges::find_if(entries, [&key](const auto& entry) {
      return entry.first.AsText()->bytes() == key.AsText()->bytes();
    });
    if (found != entries.end()) {
      found->second = std::move(value);
    } else {
      entries.emplace_back(std::move(key), std::move(value));
    }
    return absl::OkStatus();
  }

  Result Slice(const Expr& node) {
    TC_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*node.children[0]));
    std::optional<int64_t> bounds[3];
    for (size_t i = 0; i < 3; ++i) {
      if (node.children[i + 1] == nullptr) continue;
      TC_ASSIGN_OR_RETURN(const JinjaValue bound, Evaluate(*node.children[i + 1]));
      if (bound.IsNone()) continue;
      if (!bound.IsInteger())
        return FailedPrecondition("a slice goes from integer to integer, not a {}", bound.KindName());
      bounds[i] = bound.AsInteger();
    }
    return JinjaSlice(object, bounds[0], bounds[1], bounds[2].value_or(1), budget_);
  }

  Result Compare(const Expr& node) {
    TC_ASSIGN_OR_RETURN(JinjaValue left, Evaluate(*node.children[0]));
    for (size_t i = 0; i < node.operators.size(); ++i) {
      TC_ASSIGN_OR_RETURN(JinjaValue right, Evaluate(*node.children[i + 1]));
      const std::string& name = node.operators[i];
      bool holds = false;
      if (name == "in" || name == "not in") {
        TC_ASSIGN_OR_RETURN(holds, JinjaContains(right, left, budget_));
        holds = holds == (name == "in");
      } else {
        JinjaCall call;
        call.positional.push_back(right);
        TC_ASSIGN_OR_RETURN(holds, ApplyJinjaTest(name, left, call, budget_));
      }
      if (!holds) return false;
      left = std::move(right);
    }
    return true;
  }

  // ---- Calls ----

  // All children but the first.
  absl::StatusOr<JinjaCall> Arguments(const Expr& node) {
    JinjaCall call;
    for (size_t i = 1; i < node.children.size(); ++i) {
      TC_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*node.children[i]));
      call.positional.push_back(std::move(value));
    }
    for (const auto& [name, expression] : node.keywords) {
      TC_ASSIGN_OR_RETURN(JinjaValue value, Evaluate(*expression));
      call.keywords.emplace_back(name, std::move(value));
    }
    return call;
  }

  Result Call(const Expr& node) {
    const Expr& callee = *node.children[0];
    if (callee.kind == Kind::kAttribute) {
      TC_ASSIGN_OR_RETURN(const JinjaValue object, Evaluate(*callee.children[0]));
      TC_ASSIGN_OR_RETURN(const JinjaCall call, Arguments(node));
      return CallJinjaMethod(object, callee.text, call, budget_);
    }
    TC_ASSIGN_OR_RETURN(const JinjaValue called, Evaluate(callee));
    TC_ASSIGN_OR_RETURN(JinjaCall call, Arguments(node));
    if (const JinjaMacro* macro = called.AsMacro()) return CallMacro(*macro, std::move(call));
    if (const std::optional<JinjaFunction> function = called.AsFunction())
      return CallFunction(*function, call);
    if (called.IsUndefined()) return FailedPrecondition("{}", called.UndefinedName());
    return FailedPrecondition("a {} cannot be called", called.KindName());
  }

  Result CallMacro(const JinjaMacro& macro, JinjaCall call) {
    if (call.positional.size() > macro.parameters.size()) {
      return FailedPrecondition("the macro '{}' takes {} arguments, {} are given", macro.name,
                                macro.parameters.size(), call.positional.size());
    }
    Frame frame;
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& [name, fallback] = macro.parameters[i];
      const auto keyword =
          std::ranges::find(call.keywords, name, [](const auto& entry) { return entry.first; });
      JinjaValue value = JinjaUndefined{fmt::format("'{}'", name)};
      if (i < call.positional.size()) {
        value = std::move(call.positional[i]);
      } else if (keyword != call.keywords.end()) {
        value = std::move(keyword->second);
        call.keywords.erase(keyword);
      } else if (fallback != nullptr) {
        TC_ASSIGN_OR_RETURN(value, Evaluate(*fallback));
      }
      frame.emplace_back(name, std::move(value));
    }
    if (!call.keywords.empty()) {
      return FailedPrecondition("the macro '{}' takes no argument '{}' here", macro.name,
                                call.keywords.front().first);
    }
    const size_t outside = std::exchange(first_frame_, frames_.size());
    frames_.push_back(std::move(frame));
    absl::StatusOr<JinjaText> text = Captured(macro.body);
    frames_.pop_back();
    first_frame_ = outside;
    TC_RETURN_IF_ERROR(text.status());
    return *std::move(text);
  }

  Result CallFunction(JinjaFunction function, const JinjaCall& call) {
    switch (function) {
      case JinjaFunction::kRaiseException: {
        std::string reason = "it gives no reason";
        if (!call.positional.empty()) {
          TC_ASSIGN_OR_RETURN(const JinjaText text, JinjaToText(call.positional.front(), budget_));
          reason = OneLine(text.bytes());
        }
        return InvalidArgument("the template refuses the conversation: {}", reason);
      }
      case JinjaFunction::kRange:
        return JinjaRange(call, budget_);
      case JinjaFunction::kNamespace:
      case JinjaFunction::kDict:
        break;
    }
    JinjaEntries entries;
    for (const JinjaValue& initial : call.positional) {
      if (initial.AsDict() == nullptr)
        return FailedPrecondition("a {} is no dict to start from", initial.KindName());
      for (const auto& [key, value] : *initial.AsDict()) TC_RETURN_IF_ERROR(SetEntry(key, value, entries));
    }
    for (const auto& [name, value] : call.keywords) {
      TC_RETURN_IF_ERROR(SetEntry(JinjaText(name, JinjaOrigin::kTemplate), value, entries));
    }
    if (function == JinjaFunction::kDict) return JinjaValue::Dict(std::move(entries));
    namespaces_.push_back({std::move(entries)});
    return &namespaces_.back();
  }

  JinjaBudget budget_;
  std::vector<Frame> frames_;  // names borrow from the tree and the variables
  size_t first_frame_ = 0;     // that the running macro sees
  std::deque<JinjaNamespace> namespaces_;
  JinjaText output_;
  int level_ = 0;
  int error_line_ = 0;  // where the innermost error arose
};

}  // namespace

absl::StatusOr<JinjaText> RenderJinja(const JinjaBody& body, const JinjaVariables& variables,
                                      const JinjaLimits& limits) {
  return Evaluator(variables, limits).Run(body);
}

}  // namespace thermocline
