// Products of weight rows with activations: one pass for a single token, register tiles for a batch.
// SPDX-License-Identifier: Apache-2.0
//
// The sum of one (row, token) pair is defined without regard to its companions: columns in chunks of
// kChunkColumns; within a chunk lane l of one vector accumulator takes columns l, l + kLanes, ... in
// ascending order; then the lanes are summed by a fixed tree; then the chunks in ascending order. Both paths
// below compute exactly this, so a token alone and in a batch get the same bits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/mat_mul.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/cache_control.h"
#include "kernels_cpu/codecs-inl.h"
#include "kernels_cpu/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kChunkColumns = 512;  // a multiple of every block
constexpr int kTileRows = 4;            // as many as SumLanes4 sums
// Tokens a tile: with kTileRows accumulators each they fill the registers.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kTileTokens = 6;
#else
constexpr int kTileTokens = 3;
#endif
constexpr int64_t kBlockRows = 2 * kTileRows;  // rows decoded at a time; half of a 32 KiB first-level cache

// ---- One token

// sums[r] = row r . x for kRows rows. What lies ahead_bytes further is prefetched: the rows of the next call.
// The hardware loses several short streams at each change of rows; without this Q4_0 reads a third as fast.
template <class Codec, int kRows>
HWY_INLINE void DotRows(const uint8_t* const* rows, int64_t ahead_bytes, const float* HWY_RESTRICT x,
                        int64_t cols, float* sums) {
  const uint8_t* source[kRows];
  for (int r = 0; r < kRows; ++r) source[r] = rows[r];
  for (int64_t begin = 0; begin < cols; begin += kChunkColumns) {
    const int64_t count = HWY_MIN(kChunkColumns, cols - begin);
    const float* HWY_RESTRICT input = x + begin;
    F32 sum[4];
    for (int r = 0; r < 4; ++r) sum[r] = hn::Zero(F32Tag());
    for (int64_t b = 0; b < count / Codec::kBlockElements; ++b) {
      typename Codec::Block block[kRows];
      THERMOCLINE_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        block[r] = Codec::Open(source[r]);
        for (int64_t byte = 0; byte < Codec::kBlockBytes; byte += 64)
          hwy::Prefetch(source[r] + ahead_bytes + byte);
      }
      for (int step = 0; step < Codec::kSteps; ++step) {
        THERMOCLINE_UNROLL(4)
        for (int r = 0; r < kRows; ++r) {
          F32 w[Codec::kVectors];
          Codec::Step(block[r], step, w);
          THERMOCLINE_UNROLL(16)
          for (int k = 0; k < Codec::kVectors; ++k)
            sum[r] = hn::MulAdd(w[k], hn::LoadU(F32Tag(), input + k * kLanes), sum[r]);
        }
        input += Codec::kVectors * kLanes;
      }
      for (int r = 0; r < kRows; ++r) source[r] += Codec::kBlockBytes;
    }
    if constexpr (Codec::kElementBytes > 0) {
      if (const int64_t tail = count % Codec::kBlockElements; tail > 0) {
        for (int r = 0; r < kRows; ++r) {
          F32 w[Codec::kVectors];
          DecodeTail<Codec>(source[r], tail, w);
          for (int64_t k = 0; k * kLanes < tail; ++k) {
            const int64_t left = tail - k * kLanes;
            const F32 in = left >= kLanes ? hn::LoadU(F32Tag(), input + k * kLanes)
                                          : LoadPartial(input + k * kLanes, left);
            sum[r] = hn::MulAdd(w[k], in, sum[r]);
          }
        }
      }
    }
    float chunk[4];
    SumLanes4(sum[0], sum[1], sum[2], sum[3], chunk);
    for (int r = 0; r < kRows; ++r) sums[r] = begin == 0 ? chunk[r] : sums[r] + chunk[r];
  }
}

template <class Codec>
struct OneToken {
  static void Run(const WeightView& w, const float* HWY_RESTRICT x, float* HWY_RESTRICT y) {
    const auto row = [&w](int64_t r) { return reinterpret_cast<const uint8_t*>(w.row_data(r)); };
    int64_t r = 0;
    for (; r + kTileRows <= w.rows; r += kTileRows) {
      const uint8_t* rows[kTileRows] = {row(r), row(r + 1), row(r + 2), row(r + 3)};
      DotRows<Codec, kTileRows>(rows, kTileRows * w.row_stride_bytes, x, w.cols, y + r);
    }
    for (; r < w.rows; ++r) {
      const uint8_t* rows[1] = {row(r)};
      DotRows<Codec, 1>(rows, w.row_stride_bytes, x, w.cols, y + r);
    }
  }
};

// ---- A batch

// y(t, r) (+)= the chunk's part for kRows decoded rows (kChunkColumns apart) and kTokens tokens.
template <int kRows, int kTokens>
HWY_NOINLINE void Tile(const float* HWY_RESTRICT w, const float* HWY_RESTRICT x, int64_t x_stride,
                       int64_t count, bool first, float* HWY_RESTRICT y, int64_t y_stride) {
  F32 sum[kTokens][4];
  for (int t = 0; t < kTokens; ++t)
    for (int r = 0; r < 4; ++r) sum[t][r] = hn::Zero(F32Tag());
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    F32 in[kTokens];
    THERMOCLINE_UNROLL(8)
    for (int t = 0; t < kTokens; ++t) in[t] = hn::LoadU(F32Tag(), x + t * x_stride + c);
    THERMOCLINE_UNROLL(8)
    for (int r = 0; r < kRows; ++r) {
      const F32 weight = hn::Load(F32Tag(), w + r * kChunkColumns + c);
      THERMOCLINE_UNROLL(8)
      for (int t = 0; t < kTokens; ++t) sum[t][r] = hn::MulAdd(weight, in[t], sum[t][r]);
    }
  }
  if (c < count) {
    for (int t = 0; t < kTokens; ++t) {
      const F32 in = LoadPartial(x + t * x_stride + c, count - c);
      for (int r = 0; r < kRows; ++r)
        sum[t][r] = hn::MulAdd(hn::Load(F32Tag(), w + r * kChunkColumns + c), in, sum[t][r]);
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    float chunk[4];
    SumLanes4(sum[t][0], sum[t][1], sum[t][2], sum[t][3], chunk);
    float* out = y + t * y_stride;
    for (int r = 0; r < kRows; ++r) out[r] = first ? chunk[r] : out[r] + chunk[r];
  }
}

// All tokens, kTokens at a time, then what is left with fewer.
template <int kRows, int kTokens>
void Tiles(const float* w, MatrixView<const float> x, int64_t column, int64_t count, MatrixView<float> y,
           int64_t row, int64_t token) {
  for (; token + kTokens <= x.rows; token += kTokens)
    Tile<kRows, kTokens>(w, x.row_data(token) + column, x.stride, count, column == 0, y.row_data(token) + row,
                         y.stride);
  if constexpr (kTokens > 1) {
    if (token < x.rows) Tiles<kRows, kTokens - 1>(w, x, column, count, y, row, token);
  }
}

void Batch(const WeightView& w, MatrixView<const float> x, MatrixView<float> y) {
  alignas(64) float decoded[kBlockRows * kChunkColumns];
  for (int64_t row = 0; row < w.rows; row += kBlockRows) {
    const int64_t rows = HWY_MIN(kBlockRows, w.rows - row);
    for (int64_t column = 0; column < w.cols; column += kChunkColumns) {
      const int64_t count = HWY_MIN(kChunkColumns, w.cols - column);
      for (int64_t r = 0; r < rows; ++r)
        DecodeColumns(w.type, w.row_data(row + r), column, count, decoded + r * kChunkColumns);
      for (int64_t token = 0; token < x.rows; token += kTileTokens) {
        const int64_t tokens = HWY_MIN(kTileTokens, x.rows - token);
        const MatrixView<const float> in = x.Rows(token, tokens);
        const MatrixView<float> out = y.Rows(token, tokens);
        int64_t r = 0;
        for (; r + kTileRows <= rows; r += kTileRows)
          Tiles<kTileRows, kTileTokens>(decoded + r * kChunkColumns, in, column, count, out, row + r, 0);
        for (; r < rows; ++r)
          Tiles<1, kTileTokens>(decoded + r * kChunkColumns, in, column, count, out, row + r, 0);
      }
    }
  }
}

}  // namespace

void MatMul(const WeightView& w, MatrixView<const float> x, MatrixView<float> y) {
  HWY_DASSERT(w.cols == x.cols && w.rows == y.cols && x.rows == y.rows);
  if (x.rows == 1) {
    SelectByType<OneToken>(w.type)(w, x.data, y.data);
  } else {
    Batch(w, x, y);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
