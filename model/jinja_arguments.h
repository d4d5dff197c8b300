// Binds the arguments of a call to the parameters that a built-in has.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "core/status.h"
#include "model/jinja_builtins.h"

namespace thermocline {

// By parameter; null where none was given. They borrow from the call.
using JinjaBound = std::array<const JinjaValue*, 3>;

inline absl::StatusOr<JinjaBound> BindJinjaArguments(std::string_view name, const JinjaCall& call,
                                                     std::span<const std::string_view> parameters,
                                                     size_t required) {
  JinjaBound bound{};
  if (call.positional.size() > parameters.size()) {
    return FailedPrecondition("{} takes at most {} arguments here, {} are given", name, parameters.size(),
                              call.positional.size());
  }
  for (size_t i = 0; i < call.positional.size(); ++i) bound[i] = &call.positional[i];
  for (const auto& [keyword, value] : call.keywords) {
    const auto found = std::ranges::find(parameters, keyword);
    if (found == parameters.end()) return FailedPrecondition("{} takes no argument '{}' here", name, keyword);
    bound[static_cast<size_t>(found - parameters.begin())] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) return FailedPrecondition("{} needs an argument '{}'", name, parameters[i]);
  }
  return bound;
}

// The argument's string; FailedPrecondition for anything else.
inline absl::StatusOr<const JinjaText*> JinjaTextArgument(std::string_view name, const JinjaValue& value) {
  if (const JinjaText* text = value.AsText()) return text;
  return FailedPrecondition("{} takes a string, not a {}", name, value.KindName());
}

}  // namespace thermocline
