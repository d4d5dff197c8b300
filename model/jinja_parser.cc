// Recursive descent over the tokens, with Jinja's precedences.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_parser.h"

#include <algorithm>
#include <span>

#include "model/jinja_lexer.h"
#include "model/printable.h"

namespace thermocline {
namespace {

using Expr = JinjaExpression;
using ExprPtr = std::unique_ptr<JinjaExpression>;
using Kind = JinjaExpression::Kind;
using Statement = JinjaStatement;
using TokenKind = JinjaTokenKind;

class Parser {
 public:
  explicit Parser(std::vector<JinjaToken> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<JinjaBody> Run() {
    absl::StatusOr<JinjaBody> body = Body({});
    if (!body.ok()) return AtJinjaLine(Peek().line, body.status());
    return body;
  }

 private:
  const JinjaToken& Peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  JinjaToken Take() { return at_ + 1 < tokens_.size() ? std::move(tokens_[at_++]) : tokens_[at_]; }
  bool AtOperator(std::string_view text) const {
    return Peek().kind == TokenKind::kOperator && Peek().text == text;
  }
  bool AtName(std::string_view text, size_t ahead = 0) const {
    return Peek(ahead).kind == TokenKind::kName && Peek(ahead).text == text;
  }
  bool TakeOperator(std::string_view text) { return AtOperator(text) && (++at_, true); }
  bool TakeName(std::string_view text) { return AtName(text) && (++at_, true); }

  absl::Status Unexpected(std::string_view wanted) const {
    switch (Peek().kind) {
      case TokenKind::kEnd:
        return InvalidArgument("{} is expected, but the template ends", wanted);
      case TokenKind::kOutputEnd:
      case TokenKind::kBlockEnd:
        return InvalidArgument("{} is expected, but the tag ends", wanted);
      default:
        return InvalidArgument("{} is expected, found '{}'", wanted, Printable(Peek().text));
    }
  }
  absl::Status ExpectOperator(std::string_view text) {
    return TakeOperator(text) ? absl::OkStatus() : Unexpected(fmt::format("'{}'", text));
  }
  absl::Status ExpectBlockEnd() {
    if (Peek().kind != TokenKind::kBlockEnd) return Unexpected("the end of the tag");
    ++at_;
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> ExpectName(std::string_view wanted) {
    if (Peek().kind != TokenKind::kName) return Unexpected(wanted);
    return Take().text;
  }

  // ---- Statements ----

  // Up to a block that starts with one of `ends`, whose tag stays open behind that word; `end_` is the word.
  // Without `ends`: up to the end.
  absl::StatusOr<JinjaBody> Body(std::span<const std::string_view> ends) {
    const Nesting nesting(*this);
    TC_RETURN_IF_ERROR(nesting.Check("blocks"));
    JinjaBody body;
    while (true) {
      Statement statement;
      statement.line = Peek().line;
      switch (Peek().kind) {
        case TokenKind::kEnd:
          if (!ends.empty())
            return InvalidArgument("{{% {} %}} is expected, but the template ends", ends.back());
          return body;
        case TokenKind::kText:
          statement.constant = JinjaText(Take().text, JinjaOrigin::kTemplate);
          break;
        case TokenKind::kOutputBegin: {
          ++at_;
          statement.kind = Statement::Kind::kOutput;
          TC_ASSIGN_OR_RETURN(statement.expression, Tuple());
          if (Peek().kind != TokenKind::kOutputEnd) return Unexpected("}}");
          ++at_;
          break;
        }
        default: {  // a block: tokens inside of tags are all taken by now
          ++at_;
          TC_ASSIGN_OR_RETURN(const std::string word, ExpectName("a statement"));
          if (const auto found = std::ranges::find(ends, word); found != ends.end()) {
            end_ = *found;
            return body;
          }
          TC_RETURN_IF_ERROR(Block(word, statement));
        }
      }
      body.push_back(std::move(statement));
    }
  }

  // A body and its end tag, which holds nothing else.
  absl::StatusOr<JinjaBody> BodyUntil(std::string_view end) {
    TC_ASSIGN_OR_RETURN(JinjaBody body, Body({&end, 1}));
    TC_RETURN_IF_ERROR(ExpectBlockEnd());
    return body;
  }

  absl::Status Block(const std::string& word, Statement& statement) {
    if (word == "if") return If(statement);
    if (word == "for") return For(statement);
    if (word == "set") return Set(statement);
    if (word == "macro") return Macro(statement);
    if (word == "generation") {
      statement.kind = Statement::Kind::kGroup;
      TC_RETURN_IF_ERROR(ExpectBlockEnd());
      TC_ASSIGN_OR_RETURN(statement.body, BodyUntil("endgeneration"));
      return absl::OkStatus();
    }
    if (word == "break" || word == "continue") {
      if (loops_ == 0) return InvalidArgument("'{}' stands outside of a loop", word);
      statement.kind = word == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue;
      return ExpectBlockEnd();
    }
    return InvalidArgument("the statement '{}' is not supported here", Printable(word));
  }

  absl::Status If(Statement& statement) {
    constexpr std::string_view kEnds[] = {"elif", "else", "endif"};
    statement.kind = Statement::Kind::kIf;
    end_ = "elif";
    while (end_ != "endif") {
      JinjaBranch branch;
      const bool is_else = end_ == "else";
      if (!is_else) {
        TC_ASSIGN_OR_RETURN(branch.condition, Tuple());
      }
      TC_RETURN_IF_ERROR(ExpectBlockEnd());
      TC_ASSIGN_OR_RETURN(branch.body, Body(is_else ? std::span(kEnds).last(1) : std::span(kEnds)));
      statement.branches.push_back(std::move(branch));
    }
    return ExpectBlockEnd();
  }

  absl::StatusOr<std::vector<std::string>> Targets() {
    std::vector<std::string> targets;
    const bool parenthesis = TakeOperator("(");
    do {
      TC_ASSIGN_OR_RETURN(std::string name, ExpectName("a variable's name"));
      targets.push_back(std::move(name));
    } while (TakeOperator(","));
    if (parenthesis) TC_RETURN_IF_ERROR(ExpectOperator(")"));
    return targets;
  }

  absl::Status For(Statement& statement) {
    constexpr std::string_view kEnds[] = {"else", "endfor"};
    statement.kind = Statement::Kind::kFor;
    TC_ASSIGN_OR_RETURN(statement.targets, Targets());
    if (!TakeName("in")) return Unexpected("'in'");
    // Its own `if` is the loop's filter.
    TC_ASSIGN_OR_RETURN(statement.expression, Tuple(/*with_condition=*/false));
    if (TakeName("if")) {
      TC_ASSIGN_OR_RETURN(statement.condition, Expression());
    }
    if (AtName("recursive")) return InvalidArgument("recursive loops are not supported");
    TC_RETURN_IF_ERROR(ExpectBlockEnd());
    ++loops_;
    TC_ASSIGN_OR_RETURN(statement.body, Body(kEnds));
    --loops_;
    if (end_ == "else") {
      TC_RETURN_IF_ERROR(ExpectBlockEnd());
      TC_ASSIGN_OR_RETURN(statement.otherwise, Body(std::span(kEnds).last(1)));
    }
    return ExpectBlockEnd();
  }

  absl::Status Set(Statement& statement) {
    statement.kind = Statement::Kind::kSet;
    TC_ASSIGN_OR_RETURN(statement.targets, Targets());
    if (statement.targets.size() == 1 && TakeOperator(".")) {
      statement.kind = Statement::Kind::kSetField;
      TC_ASSIGN_OR_RETURN(std::string field, ExpectName("a field's name"));
      statement.targets.push_back(std::move(field));
    }
    if (Peek().kind == TokenKind::kBlockEnd && statement.kind == Statement::Kind::kSet &&
        statement.targets.size() == 1) {
      ++at_;
      statement.kind = Statement::Kind::kSetBlock;
      TC_ASSIGN_OR_RETURN(statement.body, BodyUntil("endset"));
      return absl::OkStatus();
    }
    TC_RETURN_IF_ERROR(ExpectOperator("="));
    TC_ASSIGN_OR_RETURN(statement.expression, Tuple());
    return ExpectBlockEnd();
  }

  absl::Status Macro(Statement& statement) {
    statement.kind = Statement::Kind::kMacro;
    auto macro = std::make_unique<JinjaMacro>();
    TC_ASSIGN_OR_RETURN(macro->name, ExpectName("the macro's name"));
    TC_RETURN_IF_ERROR(ExpectOperator("("));
    while (!TakeOperator(")")) {
      if (!macro->parameters.empty()) TC_RETURN_IF_ERROR(ExpectOperator(","));
      TC_ASSIGN_OR_RETURN(std::string name, ExpectName("a parameter's name"));
      JinjaExpressionPtr fallback;
      if (TakeOperator("=")) {
        TC_ASSIGN_OR_RETURN(fallback, Expression());
      }
      macro->parameters.emplace_back(std::move(name), std::move(fallback));
    }
    TC_RETURN_IF_ERROR(ExpectBlockEnd());
    const int loops_outside = std::exchange(loops_, 0);
    TC_ASSIGN_OR_RETURN(macro->body, BodyUntil("endmacro"));
    loops_ = loops_outside;
    statement.macro = std::move(macro);
    return absl::OkStatus();
  }

  // ---- Expressions, from the loosest binding to the tightest ----

  // Counts how deep parsing goes, so that recursion is bounded.
  class Nesting {
   public:
    explicit Nesting(Parser& parser) : parser_(parser) { ++parser_.nesting_; }
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;
    absl::Status Check(std::string_view what) const {
      if (parser_.nesting_ <= kMostJinjaNesting) return absl::OkStatus();
      return InvalidArgument("{} are nested deeper than the limit of {}", what, kMostJinjaNesting);
    }

   private:
    Parser& parser_;
  };

  template <typename... Children>
  ExprPtr Make(Kind kind, Children... children) const {
    auto node = std::make_unique<Expr>();
    node->kind = kind;
    node->line = Peek().line;
    (Adopt(*node, std::move(children)), ...);
    return node;
  }
  static void Adopt(Expr& node, ExprPtr child) {
    if (child != nullptr) node.depth = std::max(node.depth, child->depth + 1);
    node.children.push_back(std::move(child));
  }
  // Chains such as a.b.c.d grow a tree without nesting in the source.
  static absl::StatusOr<ExprPtr> Checked(ExprPtr node) {
    if (node->depth <= kMostJinjaNesting) return node;
    return InvalidArgument("an expression is longer than {} operations in a row", kMostJinjaNesting);
  }

  // An expression, or several with commas between them, which make a list.
  absl::StatusOr<ExprPtr> Tuple(bool with_condition = true) {
    TC_ASSIGN_OR_RETURN(ExprPtr first, with_condition ? Expression() : Or());
    if (!AtOperator(",")) return first;
    ExprPtr list = Make(Kind::kList, std::move(first));
    while (TakeOperator(",")) {
      if (Peek().kind == TokenKind::kOutputEnd || Peek().kind == TokenKind::kBlockEnd || AtOperator(")"))
        break;
      TC_ASSIGN_OR_RETURN(ExprPtr next, with_condition ? Expression() : Or());
      Adopt(*list, std::move(next));
    }
    return Checked(std::move(list));
  }

  absl::StatusOr<ExprPtr> Expression() {
    const Nesting nesting(*this);
    TC_RETURN_IF_ERROR(nesting.Check("expressions"));
    TC_ASSIGN_OR_RETURN(ExprPtr value, Or());
    while (TakeName("if")) {
      TC_ASSIGN_OR_RETURN(ExprPtr condition, Or());
      ExprPtr otherwise;
      if (TakeName("else")) {
        TC_ASSIGN_OR_RETURN(otherwise, Expression());
      }
      TC_ASSIGN_OR_RETURN(value, Checked(Make(Kind::kConditional, std::move(value), std::move(condition),
                                              std::move(otherwise))));
    }
    return value;
  }

  absl::StatusOr<ExprPtr> Or() {
    TC_ASSIGN_OR_RETURN(ExprPtr left, And());
    while (TakeName("or")) {
      TC_ASSIGN_OR_RETURN(ExprPtr right, And());
      TC_ASSIGN_OR_RETURN(left, Checked(Make(Kind::kOr, std::move(left), std::move(right))));
    }
    return left;
  }

  absl::StatusOr<ExprPtr> And() {
    TC_ASSIGN_OR_RETURN(ExprPtr left, Not());
    while (TakeName("and")) {
      TC_ASSIGN_OR_RETURN(ExprPtr right, Not());
      TC_ASSIGN_OR_RETURN(left, Checked(Make(Kind::kAnd, std::move(left), std::move(right))));
    }
    return left;
  }

  absl::StatusOr<ExprPtr> Not() {
    if (!AtName("not")) return Compare();
    const Nesting nesting(*this);
    TC_RETURN_IF_ERROR(nesting.Check("expressions"));
    ++at_;
    TC_ASSIGN_OR_RETURN(ExprPtr operand, Not());
    return Checked(Make(Kind::kNot, std::move(operand)));
  }

  absl::StatusOr<ExprPtr> Compare() {
    constexpr std::string_view kOperators[] = {"==", "!=", "<", "<=", ">", ">="};
    TC_ASSIGN_OR_RETURN(ExprPtr first, Sum());
    ExprPtr compare;
    while (true) {
      std::string name;
      if (TakeName("in")) {
        name = "in";
      } else if (AtName("not") && AtName("in", 1)) {
        at_ += 2;
        name = "not in";
      } else if (Peek().kind == TokenKind::kOperator && std::ranges::count(kOperators, Peek().text) > 0) {
        name = Take().text;
      } else {
        break;
      }
      if (compare == nullptr) compare = Make(Kind::kCompare, std::move(first));
      TC_ASSIGN_OR_RETURN(ExprPtr next, Sum());
      Adopt(*compare, std::move(next));
      compare->operators.push_back(std::move(name));
    }
    return compare == nullptr ? std::move(first) : Checked(std::move(compare));
  }

  absl::StatusOr<ExprPtr> Sum() {
    TC_ASSIGN_OR_RETURN(ExprPtr left, Concatenation());
    while (AtOperator("+") || AtOperator("-")) {
      std::string name = Take().text;
      TC_ASSIGN_OR_RETURN(ExprPtr right, Concatenation());
      TC_ASSIGN_OR_RETURN(left, Arithmetic(std::move(name), std::move(left), std::move(right)));
    }
    return left;
  }

  absl::StatusOr<ExprPtr> Concatenation() {
    TC_ASSIGN_OR_RETURN(ExprPtr first, Product());
    if (!AtOperator("~")) return first;
    ExprPtr all = Make(Kind::kConcatenate, std::move(first));
    while (TakeOperator("~")) {
      TC_ASSIGN_OR_RETURN(ExprPtr next, Product());
      Adopt(*all, std::move(next));
    }
    return Checked(std::move(all));
  }

  absl::StatusOr<ExprPtr> Product() {
    TC_ASSIGN_OR_RETURN(ExprPtr left, Unary());
    while (AtOperator("*") || AtOperator("/") || AtOperator("//") || AtOperator("%")) {
      std::string name = Take().text;
      TC_ASSIGN_OR_RETURN(ExprPtr right, Unary());
      TC_ASSIGN_OR_RETURN(left, Arithmetic(std::move(name), std::move(left), std::move(right)));
    }
    return left;
  }

  absl::StatusOr<ExprPtr> Arithmetic(std::string name, ExprPtr left, ExprPtr right) {
    ExprPtr node = Make(Kind::kArithmetic, std::move(left), std::move(right));
    node->text = std::move(name);
    return Checked(std::move(node));
  }

  // In Jinja a filter binds looser than a sign: -1|abs is (-1)|abs.
  absl::StatusOr<ExprPtr> Unary(bool with_filters = true) {
    const Nesting nesting(*this);
    TC_RETURN_IF_ERROR(nesting.Check("expressions"));
    ExprPtr node;
    if (TakeOperator("-")) {
      TC_ASSIGN_OR_RETURN(ExprPtr operand, Unary(/*with_filters=*/false));
      node = Make(Kind::kNegate, std::move(operand));
    } else {
      TC_ASSIGN_OR_RETURN(node, Primary());
    }
    TC_ASSIGN_OR_RETURN(node, Postfix(std::move(node)));
    return with_filters ? Filters(std::move(node)) : std::move(node);
  }

  absl::StatusOr<ExprPtr> Constant(JinjaValue value) {
    ExprPtr node = Make(Kind::kConstant);
    node->constant = std::move(value);
    return node;
  }

  absl::StatusOr<ExprPtr> Primary() {
    switch (Peek().kind) {
      case TokenKind::kInteger:
        return Constant(Take().integer);
      case TokenKind::kFloat:
        return Constant(Take().number);
      case TokenKind::kString: {
        std::string text = Take().text;
        while (Peek().kind == TokenKind::kString) text += Take().text;
        return Constant(JinjaText(text, JinjaOrigin::kTemplate));
      }
      case TokenKind::kName: {
        std::string name = Take().text;
        if (name == "true" || name == "True") return Constant(true);
        if (name == "false" || name == "False") return Constant(false);
        if (name == "none" || name == "None") return Constant(JinjaNone());
        ExprPtr node = Make(Kind::kName);
        node->text = std::move(name);
        return node;
      }
      default:
        break;
    }
    if (TakeOperator("(")) {
      if (TakeOperator(")")) return Make(Kind::kList);
      TC_ASSIGN_OR_RETURN(ExprPtr inner, Tuple());
      TC_RETURN_IF_ERROR(ExpectOperator(")"));
      return inner;
    }
    if (TakeOperator("[")) return ListLiteral();
    if (TakeOperator("{")) return DictLiteral();
    return Unexpected("an expression");
  }

  absl::StatusOr<ExprPtr> ListLiteral() {
    ExprPtr list = Make(Kind::kList);
    while (!TakeOperator("]")) {
      if (!list->children.empty()) {
        TC_RETURN_IF_ERROR(ExpectOperator(","));
        if (TakeOperator("]")) break;
      }
      TC_ASSIGN_OR_RETURN(ExprPtr element, Expression());
      Adopt(*list, std::move(element));
    }
    return Checked(std::move(list));
  }

  absl::StatusOr<ExprPtr> DictLiteral() {
    ExprPtr dict = Make(Kind::kDict);
    while (!TakeOperator("}")) {
      if (!dict->children.empty()) {
        TC_RETURN_IF_ERROR(ExpectOperator(","));
        if (TakeOperator("}")) break;
      }
      TC_ASSIGN_OR_RETURN(ExprPtr key, Expression());
      TC_RETURN_IF_ERROR(ExpectOperator(":"));
      TC_ASSIGN_OR_RETURN(ExprPtr value, Expression());
      Adopt(*dict, std::move(key));
      Adopt(*dict, std::move(value));
    }
    return Checked(std::move(dict));
  }

  // Arguments behind an open parenthesis.
  absl::Status Arguments(Expr& node) {
    bool first = true;
    while (!TakeOperator(")")) {
      if (!first) {
        TC_RETURN_IF_ERROR(ExpectOperator(","));
        if (TakeOperator(")")) break;
      }
      first = false;
      std::string keyword;
      if (Peek().kind == TokenKind::kName && Peek(1).kind == TokenKind::kOperator && Peek(1).text == "=") {
        keyword = Take().text;
        ++at_;
      } else if (!node.keywords.empty()) {
        return InvalidArgument("an argument without a name follows one with a name");
      }
      TC_ASSIGN_OR_RETURN(ExprPtr value, Expression());
      if (keyword.empty()) {
        Adopt(node, std::move(value));
      } else {
        node.depth = std::max(node.depth, value->depth + 1);
        node.keywords.emplace_back(std::move(keyword), std::move(value));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ExprPtr> Postfix(ExprPtr node) {
    while (true) {
      if (TakeOperator(".")) {
        node = Make(Kind::kAttribute, std::move(node));
        TC_ASSIGN_OR_RETURN(node->text, ExpectName("an attribute's name"));
      } else if (TakeOperator("[")) {
        TC_ASSIGN_OR_RETURN(node, Subscript(std::move(node)));
      } else if (TakeOperator("(")) {
        node = Make(Kind::kCall, std::move(node));
        TC_RETURN_IF_ERROR(Arguments(*node));
      } else {
        return node;
      }
      TC_ASSIGN_OR_RETURN(node, Checked(std::move(node)));
    }
  }

  absl::StatusOr<ExprPtr> Subscript(ExprPtr object) {
    ExprPtr bounds[3];
    int colons = 0;
    while (!TakeOperator("]")) {
      if (colons < 2 && TakeOperator(":")) {
        ++colons;
        continue;
      }
      if (bounds[colons] != nullptr) return Unexpected("']'");
      TC_ASSIGN_OR_RETURN(bounds[colons], Expression());
    }
    if (colons > 0) {
      return Make(Kind::kSlice, std::move(object), std::move(bounds[0]), std::move(bounds[1]),
                  std::move(bounds[2]));
    }
    if (bounds[0] == nullptr) return InvalidArgument("an index is expected between [ and ]");
    return Make(Kind::kSubscript, std::move(object), std::move(bounds[0]));
  }

  // Filters, tests and calls of what they give, in any order.
  absl::StatusOr<ExprPtr> Filters(ExprPtr node) {
    while (true) {
      if (TakeOperator("|")) {
        node = Make(Kind::kFilter, std::move(node));
        TC_ASSIGN_OR_RETURN(node->text, ExpectName("a filter's name"));
        if (TakeOperator("(")) TC_RETURN_IF_ERROR(Arguments(*node));
      } else if (TakeName("is")) {
        TC_ASSIGN_OR_RETURN(node, Test(std::move(node)));
      } else {
        return node;
      }
      TC_ASSIGN_OR_RETURN(node, Checked(std::move(node)));
    }
  }

  absl::StatusOr<ExprPtr> Test(ExprPtr input) {
    const bool negated = TakeName("not");
    ExprPtr test = Make(Kind::kTest, std::move(input));
    TC_ASSIGN_OR_RETURN(test->text, ExpectName("a test's name"));
    const TokenKind next = Peek().kind;
    if (TakeOperator("(")) {
      TC_RETURN_IF_ERROR(Arguments(*test));
    } else if (next == TokenKind::kString || next == TokenKind::kInteger || next == TokenKind::kFloat ||
               AtOperator("[") || AtOperator("{") ||
               (next == TokenKind::kName && !AtName("else") && !AtName("or") && !AtName("and") &&
                !AtName("is") && !AtName("if") && !AtName("in") && !AtName("not"))) {
      TC_ASSIGN_OR_RETURN(ExprPtr argument, Primary());
      TC_ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
      Adopt(*test, std::move(argument));
    }
    return negated ? Make(Kind::kNot, std::move(test)) : std::move(test);
  }

  std::vector<JinjaToken> tokens_;
  size_t at_ = 0;
  std::string_view end_;  // the word that ended the last body
  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

absl::StatusOr<JinjaBody> ParseJinja(std::string_view source) {
  if (source.size() > kMostJinjaSourceBytes) {
    return InvalidArgument("chat template of {} bytes, the limit is {}", source.size(),
                           kMostJinjaSourceBytes);
  }
  TC_ASSIGN_OR_RETURN(std::vector<JinjaToken> tokens, LexJinja(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace thermocline
