// Filters, tests and methods of templates.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/status.h"
#include "model/jinja_value.h"

namespace thermocline {

struct JinjaCall {
  std::vector<JinjaValue> positional;
  std::vector<std::pair<std::string, JinjaValue>> keywords;
};

// FailedPrecondition for what is not there by that name, for arguments that it does not take, and for values
// that it cannot work on; InvalidArgument where the budget is spent.
absl::StatusOr<JinjaValue> ApplyJinjaFilter(std::string_view name, const JinjaValue& input,
                                            const JinjaCall& call, JinjaBudget& budget);
absl::StatusOr<bool> ApplyJinjaTest(std::string_view name, const JinjaValue& input, const JinjaCall& call,
                                    JinjaBudget& budget);
absl::StatusOr<JinjaValue> CallJinjaMethod(const JinjaValue& object, std::string_view name,
                                           const JinjaCall& call, JinjaBudget& budget);

// object.name: a dict's entry, a namespace's field, what `loop` knows; undefined where there is none.
absl::StatusOr<JinjaValue> JinjaAttribute(const JinjaValue& object, std::string_view name,
                                          JinjaBudget& budget);
// object[index]; undefined where there is none.
absl::StatusOr<JinjaValue> JinjaSubscript(const JinjaValue& object, const JinjaValue& index,
                                          JinjaBudget& budget);

}  // namespace thermocline
