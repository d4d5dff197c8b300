// The matrix product in scalar code: naive, 1x4, 4x4 register block.
// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/ladder/rungs.h"

namespace thermocline::ladder {
namespace {

// c(i, j) for kRows rows from i and kCols columns from j: accumulators and the elements of a in registers,
// each element of a serves kCols columns, each of b kRows rows.
template <int kRows, int kCols>
void Block(const MatMulArgs& args, int64_t i, int64_t j) {
  float sum[kRows][kCols] = {};
  for (int64_t p = 0; p < args.a.cols; ++p) {
    const float* b = args.b.row_data(p) + j;
    for (int r = 0; r < kRows; ++r) {
      const float a = args.a.row_data(i + r)[p];
      for (int s = 0; s < kCols; ++s) sum[r][s] += a * b[s];
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int s = 0; s < kCols; ++s) args.c.row_data(i + r)[j + s] = sum[r][s];
}

template <int kRows, int kCols>
void Blocks(const MatMulArgs& args) {
  int64_t i = 0;
  for (; i + kRows <= args.c.rows; i += kRows) {
    int64_t j = 0;
    for (; j + kCols <= args.c.cols; j += kCols) Block<kRows, kCols>(args, i, j);
    for (; j < args.c.cols; ++j) Block<kRows, 1>(args, i, j);
  }
  for (; i < args.c.rows; ++i)
    for (int64_t j = 0; j < args.c.cols; ++j) Block<1, 1>(args, i, j);
}

}  // namespace

std::vector<MatMulRung> ScalarMatMulRungs() {
  return {{"naive", 512, nullptr, Blocks<1, 1>},
          {"1x4", 1024, nullptr, Blocks<1, 4>},
          {"4x4 register block", 1024, nullptr, Blocks<4, 4>}};
}

}  // namespace thermocline::ladder
