// The 3x3 box filter by vectors: one window, two rows at once, additions only, sums of rows kept.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ladder/box_filter_simd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/cache_control.h"
#include "tests/bench/ladder/targets-inl.h"

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace thermocline::ladder {
namespace HWY_NAMESPACE {
#if THERMOCLINE_LADDER_SIMD
namespace {

// What is left of output rows [begin, end) from column `begin_column` on, fewer columns than a vector.
HWY_INLINE void LastColumns(const BoxFilterArgs& args, int64_t begin, int64_t end, int64_t begin_column) {
  for (int64_t y = begin; y < end; ++y) {
    for (int64_t x = begin_column; x < args.output.cols; ++x) {
      float sum = 0;
      for (int64_t dy = 0; dy < 3; ++dy) {
        const float* row = args.input.row_data(y + dy) + x;
        sum += row[0] + row[1] + row[2];
      }
      args.output.row_data(y)[x] = sum;
    }
  }
}

// ---- With the kernel's weights

// kRows output rows from y on, a vector of windows at a time; each input row is read once for all of them.
template <int kRows>
HWY_INLINE void Windows(const BoxFilterArgs& args, const F32* weights, int64_t y) {
  const F32Tag d;
  int64_t x = 0;
  for (; x + kLanes <= args.output.cols; x += kLanes) {
    F32 sum[kRows];
    for (int r = 0; r < kRows; ++r) sum[r] = hn::Zero(d);
    HWY_UNROLL(4)
    for (int in = 0; in < kRows + 2; ++in) {
      const float* row = args.input.row_data(y + in) + x;
      HWY_UNROLL(3)
      for (int dx = 0; dx < 3; ++dx) {
        const F32 value = hn::LoadU(d, row + dx);
        HWY_UNROLL(2)
        for (int r = 0; r < kRows; ++r)
          if (in >= r && in < r + 3) sum[r] = hn::MulAdd(weights[3 * (in - r) + dx], value, sum[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) hn::StoreU(sum[r], d, args.output.row_data(y + r) + x);
  }
  LastColumns(args, y, y + kRows, x);
}

template <int kRows>
void Weighted(const BoxFilterArgs& args) {
  F32 weights[9];
  for (int i = 0; i < 9; ++i) weights[i] = hn::Set(F32Tag(), args.kernel[i]);
  int64_t y = 0;
  for (; y + kRows <= args.output.rows; y += kRows) Windows<kRows>(args, weights, y);
  for (; y < args.output.rows; ++y) Windows<1>(args, weights, y);
}

// ---- Weights of one

// The sum of three neighbours: one row of a window.
HWY_INLINE F32 RowSum(const float* row) {
  const F32Tag d;
  return hn::Add(hn::Add(hn::LoadU(d, row), hn::LoadU(d, row + 1)), hn::LoadU(d, row + 2));
}

void WithoutMultiplications(const BoxFilterArgs& args) {
  const F32Tag d;
  int64_t y = 0;
  for (; y + 2 <= args.output.rows; y += 2) {
    int64_t x = 0;
    for (; x + kLanes <= args.output.cols; x += kLanes) {
      const auto row = [&](int64_t r) HWY_ATTR { return RowSum(args.input.row_data(y + r) + x); };
      const F32 shared = hn::Add(row(1), row(2));  // by both output rows
      hn::StoreU(hn::Add(row(0), shared), d, args.output.row_data(y) + x);
      hn::StoreU(hn::Add(shared, row(3)), d, args.output.row_data(y + 1) + x);
    }
    LastColumns(args, y, y + 2, x);
  }
  for (; y < args.output.rows; ++y) {
    int64_t x = 0;
    for (; x + kLanes <= args.output.cols; x += kLanes) {
      const auto row = [&](int64_t r) HWY_ATTR { return RowSum(args.input.row_data(y + r) + x); };
      hn::StoreU(hn::Add(hn::Add(row(0), row(1)), row(2)), d, args.output.row_data(y) + x);
    }
    LastColumns(args, y, y + 1, x);
  }
}

// ---- Separable: the sums along the rows are made once and slide down. Strips are so narrow that two rows of
// sums stay in the first-level cache.

template <bool kStreamed>
HWY_INLINE void Put(F32 value, float* target) {
  if constexpr (kStreamed) {
    hn::Stream(value, F32Tag(), target);
  } else {
    hn::StoreU(value, F32Tag(), target);
  }
}

// Columns [begin, end) of the output, whole vectors; four rows at once, then one at a time. scratch holds the
// sums of the two input rows above.
template <bool kStreamed>
void Strip(const BoxFilterArgs& args, int64_t begin, int64_t end) {
  constexpr int kRows = 4;
  const F32Tag d;
  const int64_t cols = end - begin;
  float* HWY_RESTRICT above2 = args.scratch;
  float* HWY_RESTRICT above1 = args.scratch + kBoxFilterColumns;
  for (int64_t x = 0; x < cols; x += kLanes) {
    hn::Store(RowSum(args.input.row_data(0) + begin + x), d, above2 + x);
    hn::Store(RowSum(args.input.row_data(1) + begin + x), d, above1 + x);
  }
  int64_t y = 0;
  for (; y + kRows <= args.output.rows; y += kRows) {
    const float* row[kRows];
    float* out[kRows];
    for (int r = 0; r < kRows; ++r) {
      row[r] = args.input.row_data(y + 2 + r) + begin;
      out[r] = args.output.row_data(y + r) + begin;
    }
    for (int64_t x = 0; x < cols; x += kLanes) {
      F32 sum[kRows + 2];
      sum[0] = hn::Load(d, above2 + x);
      sum[1] = hn::Load(d, above1 + x);
      HWY_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        // The hardware's prefetcher loses the rows' short stretches.
        if constexpr (kStreamed) hwy::Prefetch(row[r] + kRows * args.input.stride + x);
        sum[r + 2] = RowSum(row[r] + x);
      }
      HWY_UNROLL(2)
      for (int r = 0; r < kRows; r += 2) {
        const F32 shared = hn::Add(sum[r + 1], sum[r + 2]);
        Put<kStreamed>(hn::Add(sum[r], shared), out[r] + x);
        Put<kStreamed>(hn::Add(shared, sum[r + 3]), out[r + 1] + x);
      }
      hn::Store(sum[kRows], d, above2 + x);
      hn::Store(sum[kRows + 1], d, above1 + x);
    }
  }
  for (; y < args.output.rows; ++y) {
    for (int64_t x = 0; x < cols; x += kLanes) {
      const F32 first = hn::Load(d, above2 + x), second = hn::Load(d, above1 + x);
      const F32 third = RowSum(args.input.row_data(y + 2) + begin + x);
      Put<kStreamed>(hn::Add(first, hn::Add(second, third)), args.output.row_data(y) + begin + x);
      hn::Store(second, d, above2 + x);
      hn::Store(third, d, above1 + x);
    }
  }
}

template <bool kStreamed>
void Separable(const BoxFilterArgs& args) {
  if (args.output.rows == 0) return;
  const int64_t whole_columns = args.output.cols / kLanes * kLanes;
  for (int64_t begin = 0; begin < whole_columns; begin += kBoxFilterColumns)
    Strip<kStreamed>(args, begin, std::min(begin + kBoxFilterColumns, whole_columns));
  LastColumns(args, 0, args.output.rows, whole_columns);
  if constexpr (kStreamed) hwy::FlushStream();
}

}  // namespace

std::vector<BoxFilterRung> BoxFilterRungs() {
  return {{"SIMD, one window at a time", Weighted<1>},
          {"SIMD, two rows at once", Weighted<2>},
          {"without multiplications", WithoutMultiplications},
          {"separable running sums", Separable<false>},
          {"separable, streamed past the caches", Separable<true>}};
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::ladder
HWY_AFTER_NAMESPACE();
