// The matrix product by vectors: 4x4, cache-blocked, packed, and with tiles that fill the register file.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ladder/matmul_simd.cc"
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

// ---- Without packing: kRows rows of a, one vector of columns of b.

// c (+)= rows i.. of a times columns j.. of b, depth [begin, end).
template <int kRows>
HWY_INLINE void VectorBlock(const MatMulArgs& args, int64_t i, int64_t j, int64_t begin, int64_t end) {
  const F32Tag d;
  const float* a[kRows];
  F32 sum[kRows];
  for (int r = 0; r < kRows; ++r) {
    a[r] = args.a.row_data(i + r);
    sum[r] = begin == 0 ? hn::Zero(d) : hn::LoadU(d, args.c.row_data(i + r) + j);
  }
  for (int64_t p = begin; p < end; ++p) {
    const F32 b = hn::LoadU(d, args.b.row_data(p) + j);
    HWY_UNROLL(4)
    for (int r = 0; r < kRows; ++r) sum[r] = hn::MulAdd(hn::Set(d, a[r][p]), b, sum[r]);
  }
  for (int r = 0; r < kRows; ++r) hn::StoreU(sum[r], d, args.c.row_data(i + r) + j);
}

// Columns [begin, end), fewer than a vector.
void LastColumns(const MatMulArgs& args, int64_t begin, int64_t end) {
  for (int64_t i = 0; i < args.c.rows; ++i) {
    for (int64_t j = begin; j < end; ++j) {
      float sum = 0;
      for (int64_t p = 0; p < args.a.cols; ++p) sum += args.a.row_data(i)[p] * args.b.row_data(p)[j];
      args.c.row_data(i)[j] = sum;
    }
  }
}

// Every row for `depth` rows and `width` columns of b at a time, so that these stay in a cache.
void Blocked(const MatMulArgs& args, int64_t depth, int64_t width) {
  const int64_t whole_columns = args.c.cols / kLanes * kLanes;
  for (int64_t column = 0; column < whole_columns; column += width) {
    const int64_t column_end = std::min(column + width, whole_columns);
    int64_t begin = 0;
    do {  // once where the depth is 0: c is set to zero
      const int64_t end = std::min(begin + depth, args.a.cols);
      int64_t i = 0;
      for (; i + 4 <= args.c.rows; i += 4)
        for (int64_t j = column; j < column_end; j += kLanes) VectorBlock<4>(args, i, j, begin, end);
      for (; i < args.c.rows; ++i)
        for (int64_t j = column; j < column_end; j += kLanes) VectorBlock<1>(args, i, j, begin, end);
      begin = end;
    } while (begin < args.a.cols);
  }
  LastColumns(args, whole_columns, args.c.cols);
}

void Simd(const MatMulArgs& args) {
  Blocked(args, std::max<int64_t>(1, args.a.cols), std::max<int64_t>(1, args.c.cols));
}

void CacheBlocked(const MatMulArgs& args) { Blocked(args, 128, 8 * kLanes); }

// ---- Packed. b is cut into blocks of kDepth x kWidth, a block into panels as wide as a tile; a likewise
// into blocks of `kHeight` x kDepth and panels as high as a tile. A tile reads both panels from front to
// back.

template <int kTileRows, int kTileVectors>
struct Packed {
  static constexpr int64_t kTileCols = kTileVectors * kLanes;
  // A panel of b (kDepth x kTileCols) and one of a stay in the first-level cache, a block of a (kHeight x
  // kDepth) in the second, a block of b in the last.
  static constexpr int64_t kDepth = 512;
  static constexpr int64_t kHeight = 256 / kTileRows * kTileRows;
  static constexpr int64_t kWidth = 2048 / kTileCols * kTileCols;
  static_assert(kHeight + kTileRows <= kPackedRows && kDepth <= kPackedDepth && kTileCols <= kMostTile);

  // Rows [row, row + rows) of a, columns [begin, begin + depth): panel by panel, each column of a panel
  // together. Rows that a does not have are zero.
  static void PackA(MatrixView<const float> a, int64_t row, int64_t rows, int64_t begin, int64_t depth,
                    float* HWY_RESTRICT packed) {
    for (int64_t i = 0; i < rows; i += kTileRows, packed += kTileRows * depth) {
      const float* source = a.row_data(row + i) + begin;
      if (i + kTileRows <= rows && kTileRows >= 4) {
        for (int64_t r = 0; r < kTileRows; r += 4) {  // the last four overlap those before
          const int64_t first = std::min<int64_t>(r, kTileRows - 4);
          PackFourRows(source + first * a.stride, a.stride, depth, packed + first);
        }
      } else {
        for (int64_t r = 0; r < kTileRows; ++r)
          for (int64_t p = 0; p < depth; ++p)
            packed[p * kTileRows + r] = i + r < rows ? source[r * a.stride + p] : 0.0f;
      }
    }
  }

  // 4x4 at a time, transposed in registers.
  static HWY_INLINE void PackFourRows(const float* HWY_RESTRICT source, int64_t stride, int64_t depth,
                                      float* HWY_RESTRICT packed) {
    const hn::Full128<float> d;
    const hn::Full128<double> d64;
    int64_t p = 0;
    for (; p + 4 <= depth; p += 4) {
      const auto r0 = hn::LoadU(d, source + p), r1 = hn::LoadU(d, source + stride + p);
      const auto r2 = hn::LoadU(d, source + 2 * stride + p), r3 = hn::LoadU(d, source + 3 * stride + p);
      const auto r01 = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1));
      const auto r23 = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3));
      const auto s01 = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
      const auto s23 = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
      float* target = packed + p * kTileRows;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, r01, r23)), d, target);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, r01, r23)), d, target + kTileRows);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, s01, s23)), d, target + 2 * kTileRows);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, s01, s23)), d, target + 3 * kTileRows);
    }
    for (; p < depth; ++p)
      for (int64_t r = 0; r < 4; ++r) packed[p * kTileRows + r] = source[r * stride + p];
  }

  // Rows [begin, begin + depth) of b, columns [column, column + cols), those that b does not have zero.
  static void PackB(MatrixView<const float> b, int64_t begin, int64_t depth, int64_t column, int64_t cols,
                    float* HWY_RESTRICT packed) {
    const F32Tag d;
    for (int64_t j = 0; j < cols; j += kTileCols) {
      const int64_t found = std::min(kTileCols, cols - j);
      for (int64_t p = 0; p < depth; ++p, packed += kTileCols) {
        const float* source = b.row_data(begin + p) + column + j;
        if (found == kTileCols) {
          for (int64_t v = 0; v < kTileVectors; ++v)
            hn::StoreU(hn::LoadU(d, source + v * kLanes), d, packed + v * kLanes);
        } else {
          std::fill(std::copy_n(source, found, packed), packed + kTileCols, 0.0f);
        }
      }
    }
  }

  // Blocks lie in the order in which Multiply needs them.
  static void PackWholeB(MatrixView<const float> b, float* packed) {
    for (int64_t column = 0; column < b.cols; column += kWidth) {
      const int64_t cols = std::min(kWidth, b.cols - column);
      for (int64_t begin = 0; begin < b.rows; begin += kDepth) {
        const int64_t depth = std::min(kDepth, b.rows - begin);
        PackB(b, begin, depth, column, cols, packed);
        packed += depth * RoundUp(cols);
      }
    }
  }

  static int64_t RoundUp(int64_t cols) { return (cols + kTileCols - 1) / kTileCols * kTileCols; }

  // c (+)= a panel of a times a panel of b. c: (kTileRows, kTileCols), all of it there.
  static HWY_NOINLINE void Tile(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t depth,
                                float* HWY_RESTRICT c, int64_t stride, bool add) {
    const F32Tag d;
    F32 sum[kTileRows][kTileVectors];
    HWY_UNROLL(16)
    for (int r = 0; r < kTileRows; ++r) {
      hwy::Prefetch(c + r * stride);
      HWY_UNROLL(4)
      for (int v = 0; v < kTileVectors; ++v) sum[r][v] = hn::Zero(d);
    }
    for (int64_t p = 0; p < depth; ++p, a += kTileRows, b += kTileCols) {
      F32 in[kTileVectors];
      HWY_UNROLL(4)
      for (int v = 0; v < kTileVectors; ++v) in[v] = hn::LoadU(d, b + v * kLanes);
      HWY_UNROLL(16)
      for (int r = 0; r < kTileRows; ++r) {
        const F32 factor = hn::Set(d, a[r]);
        HWY_UNROLL(4)
        for (int v = 0; v < kTileVectors; ++v) sum[r][v] = hn::MulAdd(factor, in[v], sum[r][v]);
      }
    }
    HWY_UNROLL(16)
    for (int r = 0; r < kTileRows; ++r) {
      HWY_UNROLL(4)
      for (int v = 0; v < kTileVectors; ++v) {
        float* target = c + r * stride + v * kLanes;
        hn::StoreU(add ? hn::Add(hn::LoadU(d, target), sum[r][v]) : sum[r][v], d, target);
      }
    }
  }

  // A tile at the edge of c, by way of a whole one.
  static void EdgeTile(const float* a, const float* b, int64_t depth, MatrixView<float> c, bool add) {
    alignas(64) float whole[kTileRows * kTileCols];
    Tile(a, b, depth, whole, kTileCols, false);
    for (int64_t r = 0; r < c.rows; ++r)
      for (int64_t s = 0; s < c.cols; ++s)
        c.row_data(r)[s] = whole[r * kTileCols + s] + (add ? c.row_data(r)[s] : 0.0f);
  }

  // A block of a times a block of b.
  static void Block(const float* packed_a, const float* packed_b, int64_t depth, MatrixView<float> c,
                    bool add) {
    for (int64_t j = 0; j < c.cols; j += kTileCols) {
      const float* b = packed_b + j * depth;
      const int64_t cols = std::min(kTileCols, c.cols - j);
      for (int64_t i = 0; i < c.rows; i += kTileRows) {
        const float* a = packed_a + i * depth;
        const MatrixView<float> tile = c.Rows(i, std::min<int64_t>(kTileRows, c.rows - i)).Columns(j, cols);
        if (tile.rows == kTileRows && cols == kTileCols) {
          Tile(a, b, depth, tile.data, tile.stride, add);
        } else {
          EdgeTile(a, b, depth, tile, add);
        }
      }
    }
  }

  static void Multiply(const MatMulArgs& args) {
    float* const packed_a = args.scratch;
    float* const scratch_b = args.scratch + kPackedRows * kPackedDepth;
    const float* ahead = args.packed_b;
    const int64_t k = args.a.cols;
    if (k == 0) {
      for (int64_t r = 0; r < args.c.rows; ++r) std::fill_n(args.c.row_data(r), args.c.cols, 0.0f);
    }
    for (int64_t column = 0; column < args.c.cols; column += kWidth) {
      const int64_t cols = std::min(kWidth, args.c.cols - column);
      for (int64_t begin = 0; begin < k; begin += kDepth) {
        const int64_t depth = std::min(kDepth, k - begin);
        const float* packed_b = ahead;
        if (ahead == nullptr) {
          PackB(args.b, begin, depth, column, cols, scratch_b);
          packed_b = scratch_b;
        } else {
          ahead += depth * RoundUp(cols);
        }
        for (int64_t row = 0; row < args.c.rows; row += kHeight) {
          const int64_t rows = std::min(kHeight, args.c.rows - row);
          PackA(args.a, row, rows, begin, depth, packed_a);
          Block(packed_a, packed_b, depth, args.c.Rows(row, rows).Columns(column, cols), begin > 0);
        }
      }
    }
  }
};

// One vector of columns, as before packing.
using SmallTiles = Packed<4, 1>;

// As many accumulators as the registers hold beside a row of b and an element of a.
#if HWY_TARGET == HWY_AVX3
using FullTiles = Packed<14, 2>;  // 28 of 32
#elif HWY_TARGET == HWY_NEON
using FullTiles = Packed<8, 3>;  // 24 of 32
#elif HWY_TARGET == HWY_AVX2
using FullTiles = Packed<6, 2>;  // 12 of 16
#else
using FullTiles = Packed<4, 2>;  // 8 of 16; without fused multiply-add products need registers, too
#endif

}  // namespace

std::vector<MatMulRung> MatMulRungs() {
  constexpr int64_t kEverySize = 1 << 20;
  return {{"SIMD", kEverySize, nullptr, Simd},
          {"cache-blocked", kEverySize, nullptr, CacheBlocked},
          {"packed inside the call", kEverySize, nullptr, SmallTiles::Multiply},
          {"packed ahead of time", kEverySize, SmallTiles::PackWholeB, SmallTiles::Multiply},
          {"ours", kEverySize, nullptr, FullTiles::Multiply},
          {"ours, packed ahead of time", kEverySize, FullTiles::PackWholeB, FullTiles::Multiply}};
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::ladder
HWY_AFTER_NAMESPACE();
