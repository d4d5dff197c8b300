// What templates do to strings: cutting, stripping, replacing, joining.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "core/status.h"
#include "model/jinja_value.h"

namespace thermocline {

// Python's strip, lstrip, rstrip: of white space, or of the code points of `characters`.
absl::StatusOr<JinjaText> JinjaStrip(const JinjaText& text, const JinjaText* characters, bool left,
                                     bool right, JinjaBudget& budget);
// Python's replace; at most `count` times where that is not negative.
absl::StatusOr<JinjaText> JinjaReplace(const JinjaText& text, const JinjaText& from, const JinjaText& to,
                                       int64_t count, JinjaBudget& budget);
// Python's split: at white space without a separator; at most `count` times where that is not negative.
// FailedPrecondition for an empty separator.
absl::StatusOr<JinjaValue> JinjaSplit(const JinjaText& text, const JinjaText* separator, int64_t count,
                                      JinjaBudget& budget);
// Python's separator.join, of what str() makes of the elements.
absl::StatusOr<JinjaText> JinjaJoin(const JinjaText& separator, const JinjaList& elements,
                                    JinjaBudget& budget);

}  // namespace thermocline
