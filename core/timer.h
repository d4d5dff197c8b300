// Monotonic stopwatch.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace thermocline {

class Stopwatch {
 public:
  Stopwatch() : start_(Clock::now()) {}
  double Seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double Milliseconds() const { return Seconds() * 1e3; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_;
};

}  // namespace thermocline
