// Products of weight rows with activations: one pass for a single token, register tiles for a batch.
// SPDX-License-Identifier: Apache-2.0
//
// The sum of one (row, token) pair is defined without regard to its companions: columns in chunks of
// kChunkColumns; within a chunk lane l of one vector accumulator takes columns l, l + kLanes, ... in
// ascending order; then the lanes are summed by a fixed tree; then the chunks in ascending order. All paths
// below compute exactly this, so a token alone and in a batch get the same bits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/mat_mul.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/cache_control.h"
#include "kernels_cpu/codecs-inl.h"
#include "kernels_cpu/targets-inl.h"

#include <algorithm>
#include <bit>

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

// sums[r] = row r . x for kRows rows. The rows of the next call, `next`, are prefetched alongside: the
// hardware loses several short streams at each change of rows; without this Q4_0 reads a third as fast.
template <class Codec, int kRows>
HWY_NOINLINE void DotRows(const uint8_t* const* rows, const uint8_t* const* next, const float* HWY_RESTRICT x,
                          int64_t cols, float* sums) {
  const uint8_t* source[kRows];
  const uint8_t* ahead[kRows];
  for (int r = 0; r < kRows; ++r) {
    source[r] = rows[r];
    ahead[r] = next[r];
  }
  int64_t offset = 0;  // of the block, in its row
  for (int64_t begin = 0; begin < cols; begin += kChunkColumns) {
    const int64_t count = HWY_MIN(kChunkColumns, cols - begin);
    const float* HWY_RESTRICT input = x + begin;
    F32 sum[4];
    for (int r = 0; r < 4; ++r) sum[r] = hn::Zero(F32Tag());
    for (int64_t b = 0; b < count / Codec::kBlockElements; ++b) {
      typename Codec::Block block[kRows];
      THERMOCLINE_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        block[r] = Codec::Open(source[r] + offset);
        for (int64_t byte = 0; byte < Codec::kBlockBytes; byte += 64) hwy::Prefetch(ahead[r] + offset + byte);
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
      offset += Codec::kBlockBytes;
    }
    if constexpr (Codec::kElementBytes > 0) {
      if (const int64_t tail = count % Codec::kBlockElements; tail > 0) {
        for (int r = 0; r < kRows; ++r) {
          F32 w[Codec::kVectors];
          DecodeTail<Codec>(source[r] + offset, tail, w);
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
      // Past the last row too: the next piece of the matrix lies there.
      const uint8_t* next[kTileRows] = {row(r + 4), row(r + 5), row(r + 6), row(r + 7)};
      DotRows<Codec, kTileRows>(rows, next, x, w.cols, y + r);
    }
    for (; r < w.rows; ++r) {
      const uint8_t* rows[1] = {row(r)};
      const uint8_t* next[1] = {row(r + 1)};
      DotRows<Codec, 1>(rows, next, x, w.cols, y + r);
    }
  }
};

template <class Codec>
struct DotListedRows {
  static void Run(const RowList& list, const RowList& next, const float* HWY_RESTRICT x,
                  float* HWY_RESTRICT products) {
    const auto row = [](const RowList& of, int64_t i) {
      return reinterpret_cast<const uint8_t*>(of.row_data(i));
    };
    for (int64_t i = 0; i < list.size(); i += kTileRows) {
      const int64_t found = HWY_MIN(int64_t{kTileRows}, list.size() - i);
      const int64_t after = i + found;
      const uint8_t* rows[kTileRows];
      const uint8_t* ahead[kTileRows];
      for (int64_t r = 0; r < kTileRows; ++r) {
        rows[r] = row(list, i + HWY_MIN(r, found - 1));
        const int64_t beyond = after + r - list.size();
        ahead[r] = beyond < 0 ? row(list, after + r) : beyond < next.size() ? row(next, beyond) : rows[r];
      }
      if (found == 1) {
        DotRows<Codec, 1>(rows, ahead, x, list.w.cols, products + i);
      } else {  // repeats the last row: one chain of sums takes as long as four beside each other
        float sums[kTileRows];
        DotRows<Codec, kTileRows>(rows, ahead, x, list.w.cols, sums);
        for (int64_t r = 0; r < found; ++r) products[i + r] = sums[r];
      }
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

// y(t, row + r) (+)= the chunk's part for `rows` decoded rows and all tokens.
void AllTokens(const float* decoded, int64_t rows, MatrixView<const float> x, int64_t column, int64_t count,
               MatrixView<float> y, int64_t row) {
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

// out[t] (+)= the chunk's part for one decoded row and kTokens tokens anywhere.
template <int kTokens>
HWY_NOINLINE void DotTokens(const float* HWY_RESTRICT w, const float* const* x, int64_t count, bool first,
                            float* const* out) {
  F32 sum[4];
  for (F32& s : sum) s = hn::Zero(F32Tag());
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    const F32 weight = hn::Load(F32Tag(), w + c);
    THERMOCLINE_UNROLL(4)
    for (int t = 0; t < kTokens; ++t) sum[t] = hn::MulAdd(weight, hn::LoadU(F32Tag(), x[t] + c), sum[t]);
  }
  if (c < count) {
    const F32 weight = hn::Load(F32Tag(), w + c);
    for (int t = 0; t < kTokens; ++t) sum[t] = hn::MulAdd(weight, LoadPartial(x[t] + c, count - c), sum[t]);
  }
  float chunk[4];
  SumLanes4(sum[0], sum[1], sum[2], sum[3], chunk);
  for (int t = 0; t < kTokens; ++t) *out[t] = first ? chunk[t] : *out[t] + chunk[t];
}

// y(t, row) (+)= the chunk's part for one decoded row and the tokens of the mask.
void SomeTokens(const float* decoded, uint32_t mask, MatrixView<const float> x, int64_t column, int64_t count,
                MatrixView<float> y, int64_t row) {
  using Function = void (*)(const float*, const float* const*, int64_t, bool, float* const*);
  static constexpr Function kByCount[4] = {DotTokens<1>, DotTokens<2>, DotTokens<3>, DotTokens<4>};
  while (mask != 0) {
    const float* inputs[4];
    float* outputs[4];
    int tokens = 0;
    for (; mask != 0 && tokens < 4; mask &= mask - 1, ++tokens) {
      const int64_t token = std::countr_zero(mask);
      inputs[tokens] = x.row_data(token) + column;
      outputs[tokens] = y.row_data(token) + row;
    }
    kByCount[tokens - 1](decoded, inputs, count, column == 0, outputs);
  }
}

void Batch(const WeightView& w, MatrixView<const float> x, MatrixView<float> y) {
  const ElementTypeInfo& type = InfoOf(w.type);
  const int64_t chunk_bytes = kChunkColumns / type.block_elements * type.block_bytes;
  alignas(64) float decoded[kBlockRows * kChunkColumns];
  for (int64_t row = 0; row < w.rows; row += kBlockRows) {
    const int64_t rows = HWY_MIN(kBlockRows, w.rows - row);
    for (int64_t column = 0; column < w.cols; column += kChunkColumns) {
      const int64_t count = HWY_MIN(kChunkColumns, w.cols - column);
      for (int64_t r = 0; r < rows; ++r) {
        // Rows lie apart, where no stream of the hardware's follows; past the last one the next piece begins.
        const std::byte* ahead =
            w.row_data(row + kBlockRows + r) + column / type.block_elements * type.block_bytes;
        for (int64_t byte = 0; byte < chunk_bytes; byte += 64) hwy::Prefetch(ahead + byte);
        DecodeColumns(w.type, w.row_data(row + r), column, count, decoded + r * kChunkColumns);
      }
      AllTokens(decoded, rows, x, column, count, y, row);
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

void DotListed(const RowList& list, const RowList& next, const float* x, float* products) {
  SelectByType<DotListedRows>(list.w.type)(list, next, x, products);
}

void DotListedBatch(const RowList& list, std::span<const TokenMask> tokens, MatrixView<const float> x,
                    MatrixView<float> products) {
  const WeightView& w = list.w;
  const ElementTypeInfo& type = InfoOf(w.type);
  const int64_t chunk_bytes = kChunkColumns / type.block_elements * type.block_bytes;
  const auto every = static_cast<TokenMask>((uint32_t{1} << x.rows) - 1);
  alignas(64) float decoded[kBlockRows * kChunkColumns];
  for (int64_t row = 0; row < list.size(); row += kBlockRows) {
    const int64_t rows = HWY_MIN(kBlockRows, list.size() - row);
    const TokenMask* masks = tokens.data() + row;
    const bool all = std::all_of(masks, masks + rows, [every](TokenMask mask) { return mask == every; });
    for (int64_t column = 0; column < w.cols; column += kChunkColumns) {
      const int64_t count = HWY_MIN(kChunkColumns, w.cols - column);
      for (int64_t r = 0; r < rows; ++r) {
        if (row + r + kBlockRows < list.size()) {
          const std::byte* ahead =
              list.row_data(row + r + kBlockRows) + column / type.block_elements * type.block_bytes;
          for (int64_t byte = 0; byte < chunk_bytes; byte += 64) hwy::Prefetch(ahead + byte);
        }
        DecodeColumns(w.type, list.row_data(row + r), column, count, decoded + r * kChunkColumns);
      }
      if (all) {
        AllTokens(decoded, rows, x, column, count, products, row);
      } else {
        for (int64_t r = 0; r < rows; ++r)
          SomeTokens(decoded + r * kChunkColumns, masks[r], x, column, count, products, row + r);
      }
    }
  }
}

void MatMulRows(const WeightView& w, std::span<const uint32_t> rows, MatrixView<const float> x,
                MatrixView<float> y) {
  HWY_DASSERT(w.cols == x.cols && w.rows == y.cols && x.rows == y.rows && x.rows <= kMostSparseTokens);
  constexpr size_t kPieceRows = 64;
  float storage[kMostSparseTokens * kPieceRows];
  TokenMask every[kPieceRows];
  for (TokenMask& mask : every) mask = static_cast<TokenMask>((uint32_t{1} << x.rows) - 1);
  while (!rows.empty()) {
    const std::span<const uint32_t> piece = rows.first(HWY_MIN(kPieceRows, rows.size()));
    rows = rows.subspan(piece.size());
    if (x.rows == 1) {
      DotListed({w, piece}, {w, rows}, x.data, storage);
    } else {
      DotListedBatch({w, piece}, {every, piece.size()}, x, {storage, x.rows, kPieceRows, kPieceRows});
    }
    for (int64_t t = 0; t < x.rows; ++t) {
      for (size_t i = 0; i < piece.size(); ++i)
        y.row_data(t)[piece[i]] = storage[static_cast<size_t>(t) * kPieceRows + i];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
