// Renders a parsed template.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/status.h"
#include "model/jinja_ast.h"
#include "model/jinja_text.h"
#include "model/jinja_value.h"

namespace thermocline {

using JinjaVariables = std::vector<std::pair<std::string, JinjaValue>>;

// The text that `body` makes of the variables. Bounded by `limits`, and recursion by a limit of its own.
// Errors as of ChatTemplate::Render, with the line.
absl::StatusOr<JinjaText> RenderJinja(const JinjaBody& body, const JinjaVariables& variables,
                                      const JinjaLimits& limits);

}  // namespace thermocline
