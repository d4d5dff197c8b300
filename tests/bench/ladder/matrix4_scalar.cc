// Products of 4x4 matrices in scalar code, in float and in Q1.14.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "tests/bench/ladder/rungs.h"

namespace thermocline::ladder {
namespace {

void Multiply(const float* a, const float* b, int64_t count, float* c) {
  for (int64_t i = 0; i < count; ++i, a += 16, b += 16, c += 16) {
    for (int col = 0; col < 4; ++col) {
      for (int row = 0; row < 4; ++row) {
        float sum = 0;
        for (int k = 0; k < 4; ++k) sum += a[4 * k + row] * b[4 * col + k];
        c[4 * col + row] = sum;
      }
    }
  }
}

int16_t Narrow(int32_t sum) {
  const int32_t rounded = (sum >> 14) + ((sum >> 13) & 1);  // sum + 2^13 would overflow near the top
  return static_cast<int16_t>(std::clamp(rounded, -32768, 32767));
}

void MultiplyFixed(const int16_t* a, const int16_t* b, int64_t count, int16_t* c) {
  for (int64_t i = 0; i < count; ++i, a += 16, b += 16, c += 16) {
    for (int col = 0; col < 4; ++col) {
      for (int row = 0; row < 4; ++row) {
        uint32_t sum = 0;  // wraps
        for (int k = 0; k < 4; ++k) sum += static_cast<uint32_t>(int32_t{a[4 * k + row]} * b[4 * col + k]);
        c[4 * col + row] = Narrow(static_cast<int32_t>(sum));
      }
    }
  }
}

}  // namespace

std::vector<Matrix4Rung> ScalarMatrix4Rungs() { return {{"scalar", Multiply}}; }
std::vector<FixedMatrix4Rung> ScalarFixedMatrix4Rungs() { return {{"scalar", MultiplyFixed}}; }

}  // namespace thermocline::ladder
