// StopMatcher.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace thermocline {

std::string StopMatcher::Push(std::string_view text) {
  if (stopped()) return "";
  held_ += text;

  size_t match_end = std::string::npos;
  const std::string* match = nullptr;
  for (const std::string& stop : stops_) {
    const size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (match == nullptr || end < match_end || (end == match_end && stop.size() > match->size())) {
      match_end = end;
      match = &stop;
    }
  }
  if (match != nullptr) {
    matched_ = *match;
    held_.resize(include_stop_ ? match_end : match_end - match->size());
    return std::exchange(held_, "");
  }

  // Hold back the longest end of the text that begins a stop string.
  size_t hold = 0;
  for (const std::string& stop : stops_) {
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > hold; --length) {
      if (std::string_view(held_).ends_with(std::string_view(stop).substr(0, length))) {
        hold = length;
        break;
      }
    }
  }
  std::string ready = held_.substr(0, held_.size() - hold);
  held_.erase(0, ready.size());
  return ready;
}

std::string StopMatcher::Flush() { return std::exchange(held_, ""); }

}  // namespace thermocline
