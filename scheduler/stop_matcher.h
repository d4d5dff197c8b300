// StopMatcher: finds stop strings in a growing text and never lets a part of one out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace thermocline {

class StopMatcher {
 public:
  // `include_stop`: whether the matched string is given out with the text before it.
  StopMatcher(std::vector<std::string> stops, bool include_stop)
      : stops_(std::move(stops)), include_stop_(include_stop) {}

  // Appends `text` and returns what can no longer be part of a stop string. The first stop string to be
  // complete wins, among those that end together the longest; from then on nothing is given out.
  std::string Push(std::string_view text);
  // What is held back, when the text ends without a stop string.
  std::string Flush();

  bool stopped() const { return !matched_.empty(); }
  const std::string& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool include_stop_;
  std::string held_;
  std::string matched_;
};

}  // namespace thermocline
