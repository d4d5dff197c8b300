// String operations that keep every byte's origin.
// SPDX-License-Identifier: Apache-2.0
#include "model/jinja_strings.h"

#include <algorithm>

namespace thermocline {
namespace {

bool Holds(std::string_view characters, std::string_view code_point) {
  for (size_t at = 0; at < characters.size();) {
    const size_t length = JinjaCodePointBytes(characters, at);
    if (characters.substr(at, length) == code_point) return true;
    at += length;
  }
  return false;
}

}  // namespace

absl::StatusOr<JinjaText> JinjaStrip(const JinjaText& text, const JinjaText* characters, bool left,
                                     bool right, JinjaBudget& budget) {
  const std::string_view bytes = text.bytes();
  size_t begin = 0, end = bytes.size();
  if (characters == nullptr) {
    TC_RETURN_IF_ERROR(budget.SpendText(bytes.size()));
    if (left) begin = JinjaSpaceBefore(bytes);
    if (right) end -= JinjaSpaceAfter(bytes.substr(begin));
  } else {
    TC_RETURN_IF_ERROR(budget.SpendText(bytes.size()));
    TC_RETURN_IF_ERROR(budget.Spend(static_cast<int64_t>(bytes.size() * characters->size() / 8)));
    const std::vector<size_t> points = JinjaCodePoints(bytes);
    size_t first = 0, last = points.size() - 1;
    const auto strips = [&](size_t i) {
      return Holds(characters->bytes(), bytes.substr(points[i], points[i + 1] - points[i]));
    };
    while (left && first < last && strips(first)) ++first;
    while (right && last > first && strips(last - 1)) --last;
    begin = points[first];
    end = points[last];
  }
  return text.Substring(begin, end - begin);
}

absl::StatusOr<JinjaText> JinjaReplace(const JinjaText& text, const JinjaText& from, const JinjaText& to,
                                       int64_t count, JinjaBudget& budget) {
  TC_RETURN_IF_ERROR(budget.SpendBytes(text.size() * (1 + from.size() / 64)));
  JinjaText replaced;
  size_t done = 0;
  for (size_t search = 0; count != 0; --count) {
    const size_t found = text.bytes().find(from.bytes(), search);
    if (found == std::string::npos) break;
    replaced.Append(text.Substring(done, found - done));
    TC_RETURN_IF_ERROR(budget.CheckText(replaced.size() + to.size()));
    TC_RETURN_IF_ERROR(budget.SpendBytes(to.size()));
    replaced.Append(to);
    done = found + from.size();
    search = done;
    if (!from.empty()) continue;
    // Nothing is found between any two code points, and at both ends.
    if (found == text.size()) break;
    search = found + JinjaCodePointBytes(text.bytes(), found);
  }
  replaced.Append(text.Substring(done, text.size() - done));
  TC_RETURN_IF_ERROR(budget.SpendText(replaced.size()));
  return replaced;
}

absl::StatusOr<JinjaValue> JinjaSplit(const JinjaText& text, const JinjaText* separator, int64_t count,
                                      JinjaBudget& budget) {
  if (separator != nullptr && separator->empty()) return FailedPrecondition("split takes no empty separator");
  const std::string_view bytes = text.bytes();
  TC_RETURN_IF_ERROR(
      budget.SpendText(bytes.size() * (1 + (separator == nullptr ? 0 : separator->size() / 64))));
  JinjaList parts;
  size_t begin = separator == nullptr ? JinjaSpaceBefore(bytes) : 0;
  while (true) {
    size_t end = std::string_view::npos, next = 0;
    if (separator != nullptr) {
      if (count != 0) end = bytes.find(separator->bytes(), begin);
      next = end + separator->size();
    } else {
      if (begin == bytes.size()) break;
      if (count != 0) {
        end = begin;
        while (end < bytes.size() && JinjaSpaceBefore(bytes.substr(end, 4)) == 0) {
          end += JinjaCodePointBytes(bytes, end);
        }
        next = end + JinjaSpaceBefore(bytes.substr(end));
      } else {
        end = next = bytes.size();  // the rest, with its space
      }
    }
    TC_RETURN_IF_ERROR(budget.Spend(1));
    parts.emplace_back(text.Substring(begin, end == std::string_view::npos ? end : end - begin));
    if (separator != nullptr && end == std::string_view::npos) break;
    begin = next;
    if (count > 0) --count;
  }
  return JinjaValue::List(std::move(parts));
}

absl::StatusOr<JinjaText> JinjaJoin(const JinjaText& separator, const JinjaList& elements,
                                    JinjaBudget& budget) {
  JinjaText joined;
  for (size_t i = 0; i < elements.size(); ++i) {
    if (i > 0) {
      TC_RETURN_IF_ERROR(budget.SpendBytes(separator.size()));
      joined.Append(separator);
    }
    TC_ASSIGN_OR_RETURN(const JinjaText text, JinjaToText(elements[i], budget));
    joined.Append(text);
    TC_RETURN_IF_ERROR(budget.CheckText(joined.size()));
  }
  return joined;
}

}  // namespace thermocline
