// ProgressBar: one line on standard error, drawn only on a terminal.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/timer.h"

namespace thermocline {

class ProgressBar {
 public:
  // Draws nothing unless `visible` and standard error is a terminal.
  explicit ProgressBar(bool visible);
  ~ProgressBar();  // ends the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // share: 0 to 1. At most some ten times a second, so that callers need not count.
  void Show(double share, std::string_view what);
  double seconds() const { return watch_.Seconds(); }  // since it was made

 private:
  const bool visible_;
  const Stopwatch watch_;
  double shown_at_ = -1;  // seconds; negative: never
};

}  // namespace thermocline
