// The 3x3 box filter in scalar code: naive, and four rows read for two output rows.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/ladder/rungs.h"

namespace thermocline::ladder {
namespace {

void Naive(const BoxFilterArgs& args) {
  for (int64_t y = 0; y < args.output.rows; ++y) {
    for (int64_t x = 0; x < args.output.cols; ++x) {
      float sum = 0;
      for (int64_t dy = 0; dy < 3; ++dy)
        for (int64_t dx = 0; dx < 3; ++dx)
          sum += args.kernel[3 * dy + dx] * args.input.row_data(y + dy)[x + dx];
      args.output.row_data(y)[x] = sum;
    }
  }
}

// kRows output rows from y on: each input row is read once for all of them.
template <int kRows>
void Rows(const BoxFilterArgs& args, int64_t y) {
  for (int64_t x = 0; x < args.output.cols; ++x) {
    float sum[kRows] = {};
    for (int in = 0; in < kRows + 2; ++in) {
      for (int dx = 0; dx < 3; ++dx) {
        const float value = args.input.row_data(y + in)[x + dx];
        for (int out = 0; out < kRows; ++out)
          if (in >= out && in < out + 3) sum[out] += args.kernel[3 * (in - out) + dx] * value;
      }
    }
    for (int out = 0; out < kRows; ++out) args.output.row_data(y + out)[x] = sum[out];
  }
}

void TwoRows(const BoxFilterArgs& args) {
  int64_t y = 0;
  for (; y + 2 <= args.output.rows; y += 2) Rows<2>(args, y);
  for (; y < args.output.rows; ++y) Rows<1>(args, y);
}

}  // namespace

std::vector<BoxFilterRung> ScalarBoxFilterRungs() {
  return {{"naive", Naive}, {"two rows at once", TwoRows}};
}

}  // namespace thermocline::ladder
