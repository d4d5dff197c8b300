// Parses the subset of Jinja that chat templates are written in.
// SPDX-License-Identifier: Apache-2.0
//
// Statements: for (unpacking, filter, else, break, continue), if, set (also of namespace fields and blocks),
// macro, generation (which only marks text). Expressions: all but powers; tuples are lists. Not there:
// include, import, extends, block, call, filter, raw, with, do, recursive loops.
#pragma once

#include <string_view>

#include "core/status.h"
#include "model/jinja_ast.h"

namespace thermocline {

inline constexpr size_t kMostJinjaSourceBytes = size_t{256} << 10;
inline constexpr int kMostJinjaNesting = 100;  // of expressions in expressions, and of blocks in blocks

// InvalidArgument naming the line and what is not in the subset, or the limit that is passed.
absl::StatusOr<JinjaBody> ParseJinja(std::string_view source);

}  // namespace thermocline
