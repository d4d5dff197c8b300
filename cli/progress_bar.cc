// ProgressBar: drawing.
// SPDX-License-Identifier: Apache-2.0
#include "cli/progress_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

namespace thermocline {

ProgressBar::ProgressBar(bool visible) : visible_(visible && isatty(STDERR_FILENO) != 0) {}

ProgressBar::~ProgressBar() {
  if (shown_at_ >= 0) fmt::print(stderr, "\n");
}

void ProgressBar::Show(double share, std::string_view what) {
  constexpr double kPauseSeconds = 0.1;
  constexpr int kWidth = 30;
  const double now = seconds();
  if (!visible_ || (shown_at_ >= 0 && now - shown_at_ < kPauseSeconds)) return;
  shown_at_ = now;
  share = std::clamp(share, 0.0, 1.0);
  const int filled = static_cast<int>(share * kWidth);
  // The line is cleared behind what is new, which may be shorter than what was there.
  fmt::print(stderr, "\r[{:#<{}}{:.<{}}] {:3.0f} %  {}  {:.0f} s left\033[K", "", filled, "", kWidth - filled,
             100 * share, what, share > 0 ? now / share - now : 0);
}

}  // namespace thermocline
