// TokenClock: when a completion's tokens came out.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <vector>

#include "scheduler/request.h"

namespace thermocline {

double MillisecondsBetween(std::chrono::steady_clock::time_point begin,
                           std::chrono::steady_clock::time_point end);

class TokenClock {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit TokenClock(TimePoint arrival) : arrival_(arrival) {}
  void Tick(TimePoint now);
  // Sets what is about tokens; nothing before the first.
  void Report(CompletionTimings& timings);

 private:
  TimePoint arrival_, first_, last_;
  bool ticked_ = false;
  std::vector<double> gaps_ms_;
};

}  // namespace thermocline
