// JinjaValue: what expressions of a template evaluate to, with Python's meaning of truth, equality and text.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/status.h"
#include "model/jinja_text.h"

namespace thermocline {

class JinjaValue;
struct JinjaMacro;  // model/jinja_ast.h

// Bounds on what one rendering may do.
struct JinjaLimits {
  // Units of work: one for each node evaluated, element visited, and 32 bytes of text made or searched.
  int64_t work = int64_t{8} << 20;
  int64_t output_bytes = int64_t{32} << 20;  // of the result, and of any string on the way
};

// What is left of JinjaLimits; one for each rendering.
class JinjaBudget {
 public:
  explicit JinjaBudget(const JinjaLimits& limits) : limits_(limits), left_(limits.work) {}
  // InvalidArgument when a limit is passed.
  absl::Status Spend(int64_t units);
  absl::Status SpendBytes(size_t bytes);  // of text read
  absl::Status SpendText(size_t bytes);   // of text made, as long as that
  absl::Status CheckText(size_t bytes) const;

 private:
  const JinjaLimits limits_;
  int64_t left_;
};

enum class JinjaFunction { kNamespace, kRange, kDict, kRaiseException };

struct JinjaUndefined {
  std::string what;  // "'x'", "'message.tools'": what is not there
};
using JinjaNone = std::monostate;

using JinjaList = std::vector<JinjaValue>;
using JinjaEntries =
    std::vector<std::pair<JinjaValue, JinjaValue>>;  // keys are strings, in order of insertion
struct JinjaNamespace;                               // owned by the evaluation
struct JinjaLoop;

// Immutable but for namespaces, which are held by address and owned elsewhere: values cannot form a cycle.
class JinjaValue {
 public:
  // Lists inside lists are limited, so that recursion over values is.
  static constexpr int kMostDepth = 32;

  JinjaValue() : value_(JinjaUndefined{}) {}
  JinjaValue(JinjaUndefined value) : value_(std::move(value)) {}  // NOLINT: conversions are the purpose
  JinjaValue(JinjaNone value) : value_(value) {}
  JinjaValue(bool value) : value_(value) {}
  JinjaValue(int64_t value) : value_(value) {}
  JinjaValue(double value) : value_(value) {}
  JinjaValue(JinjaText value) : value_(std::make_shared<const JinjaText>(std::move(value))) {}
  JinjaValue(JinjaNamespace* value) : value_(value) {}
  JinjaValue(std::shared_ptr<const JinjaLoop> value);
  JinjaValue(const JinjaMacro* value) : value_(value) {}
  JinjaValue(JinjaFunction value) : value_(value) {}
  // InvalidArgument beyond kMostDepth.
  static absl::StatusOr<JinjaValue> List(JinjaList elements);
  static absl::StatusOr<JinjaValue> Dict(JinjaEntries entries);

  template <typename T>
  bool Is() const {
    return std::holds_alternative<T>(value_);
  }
  bool IsUndefined() const { return Is<JinjaUndefined>(); }
  bool IsNone() const { return Is<JinjaNone>(); }
  bool IsBool() const { return Is<bool>(); }
  bool IsInteger() const { return Is<int64_t>() || IsBool(); }
  bool IsNumber() const { return IsInteger() || Is<double>(); }
  const JinjaText* AsText() const;
  const JinjaList* AsList() const;
  const JinjaEntries* AsDict() const;
  JinjaNamespace* AsNamespace() const;
  const JinjaLoop* AsLoop() const;
  const JinjaMacro* AsMacro() const;
  std::optional<JinjaFunction> AsFunction() const;
  int64_t AsInteger() const;  // of an IsInteger()
  double AsDouble() const;    // of an IsNumber()

  std::string_view KindName() const;  // "string", "list", ... for messages
  std::string UndefinedName() const;  // "'x' is undefined"; of an IsUndefined()

  bool IsTrue() const;
  int depth() const { return depth_; }

 private:
  using TextPointer = std::shared_ptr<const JinjaText>;
  using ListPointer = std::shared_ptr<const JinjaList>;
  using DictPointer = std::shared_ptr<const JinjaEntries>;
  using LoopPointer = std::shared_ptr<const JinjaLoop>;
  std::variant<JinjaUndefined, JinjaNone, bool, int64_t, double, TextPointer, ListPointer, DictPointer,
               JinjaNamespace*, LoopPointer, const JinjaMacro*, JinjaFunction>
      value_;
  int depth_ = 0;
};

struct JinjaNamespace {
  JinjaEntries entries;
};

// What `loop` is in one turn of a for.
struct JinjaLoop {
  JinjaValue elements;  // a list
  size_t index = 0;
};

// The entry's value; null where there is none.
const JinjaValue* FindJinjaEntry(const JinjaEntries& entries, std::string_view key);

// Python's ==. Spends what it compares.
absl::StatusOr<bool> JinjaEqual(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget);
// Negative, 0 or positive as Python orders numbers and strings; FailedPrecondition for anything else.
absl::StatusOr<int> JinjaCompare(const JinjaValue& a, const JinjaValue& b, JinjaBudget& budget);
// Python's `element in container`.
absl::StatusOr<bool> JinjaContains(const JinjaValue& container, const JinjaValue& element,
                                   JinjaBudget& budget);
// What a for loop goes over: a list's elements, a dict's keys, a string's code points.
absl::StatusOr<JinjaList> JinjaElements(const JinjaValue& value, JinjaBudget& budget);

// Python's str(): what {{ value }} prints. FailedPrecondition for functions and macros.
absl::StatusOr<JinjaText> JinjaToText(const JinjaValue& value, JinjaBudget& budget);
// json.dumps without ASCII escapes; `indent` negative: on one line.
absl::StatusOr<JinjaText> JinjaToJson(const JinjaValue& value, int64_t indent, JinjaBudget& budget);

}  // namespace thermocline
