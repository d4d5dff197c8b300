// TokenClock.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/token_clock.h"

#include <algorithm>

namespace thermocline {
namespace {

// Nearest-rank percentile; 0 when there are none.
double Percentile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(share * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank), values.end());
  return values[rank];
}

}  // namespace

double MillisecondsBetween(std::chrono::steady_clock::time_point begin,
                           std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

void TokenClock::Tick(TimePoint now) {
  if (ticked_) {
    gaps_ms_.push_back(MillisecondsBetween(last_, now));
  } else {
    first_ = now;
    ticked_ = true;
  }
  last_ = now;
}

void TokenClock::Report(CompletionTimings& timings) {
  if (!ticked_) return;
  timings.time_to_first_token_ms = MillisecondsBetween(arrival_, first_);
  timings.decode_ms = MillisecondsBetween(first_, last_);
  timings.inter_token_p50_ms = Percentile(gaps_ms_, 0.50);
  timings.inter_token_p99_ms = Percentile(gaps_ms_, 0.99);
}

}  // namespace thermocline
