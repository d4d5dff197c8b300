// Products of columns with listed activations, written once over the vector operations of an instruction set.
// SPDX-License-Identifier: Apache-2.0
//
// Included inside a target's region with THERMOCLINE_TILES set, as packed_tiles-inl.h is, and over the same
// `Ops`, which must besides have Load (floats) and Transpose (four vectors of bytes, of four columns, to four
// vectors of words, a row's four columns in each).
//
// y(t, r) = the sum over the token's groups of columns that list anything, ascending, of scale_w * scale_x *
// (the integer product), each by one multiply-add to the sum so far; types with minima add minimum *
// scaled_sum after each. These are the sums of packed_tiles-inl.h, whose further terms are zeros: the bits
// agree where both know a type.
//
// A chunk of 128 rows lies so that Transpose gives vectors of consecutive rows: of its vectors of 16 floats
// k = 0..7, quarter u and lane l are row 16 k + 4 u + l, in the low (k < 4) or high nibble of byte 16 u +
// 8 (k / 2 % 2) + 4 (k % 2) + l. Bytes hold 64 rows in 64 bytes the same way.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/element_type.h"
#include "kernels_cpu/column_matrix.h"
#include "kernels_cpu/listed_activations.h"

namespace thermocline {
namespace THERMOCLINE_TILES {

constexpr int64_t kStripChunks = kStripRows / kChunkRows;
constexpr int64_t kColumnTokens = 8;  // whose sums over a strip are kept beside each other
constexpr int64_t kGroupsAhead = 2;   // that are prefetched: processors do not guess which columns follow
constexpr int64_t kLineBytes = 64;
constexpr int64_t kSuperBlocks = 8;  // blocks that share further scales

// ---- Scales: `block` and `super` are the records of the group's block and of its 256 columns for one chunk

struct ScaleRecords {
  const uint8_t* block;
  const uint8_t* super;
};

template <class Ops>
struct HalfScales {
  static constexpr bool kMinimum = false;
  static constexpr int64_t kGroupColumns = 32, kGroupBytes = 2 * kChunkRows, kSuperBytes = 0;
  static inline typename Ops::Floats Scale(const ScaleRecords& at, int64_t row) {
    return Ops::LoadHalves(at.block + 2 * row);
  }
};

template <class Ops>
struct HalfScalesAndMinima : HalfScales<Ops> {
  static constexpr bool kMinimum = true;
  static constexpr int64_t kGroupBytes = 4 * kChunkRows;
  static inline typename Ops::Floats Minimum(const ScaleRecords& at, int64_t row) {
    return Ops::LoadHalves(at.block + 2 * (kChunkRows + row));
  }
};

// Q4_K, Q5_K: 6 bits of each block times the 256 columns' own.
template <class Ops>
struct SubScales {
  static constexpr bool kMinimum = true;
  static constexpr int64_t kGroupColumns = 32, kGroupBytes = 2 * kChunkRows, kSuperBytes = 4 * kChunkRows;
  static inline typename Ops::Floats Scale(const ScaleRecords& at, int64_t row) {
    return Ops::Mul(Ops::LoadHalves(at.super + 2 * row), Ops::LoadBytes(at.block + row));
  }
  static inline typename Ops::Floats Minimum(const ScaleRecords& at, int64_t row) {
    return Ops::Negative(Ops::Mul(Ops::LoadHalves(at.super + 2 * (kChunkRows + row)),
                                  Ops::LoadBytes(at.block + kChunkRows + row)));
  }
};

// Q6_K: 8 bits of each 16 columns, stored with 128 added, times the 256 columns' own.
template <class Ops>
struct SignedSubScales {
  static constexpr bool kMinimum = false;
  static constexpr int64_t kGroupColumns = 16, kGroupBytes = kChunkRows, kSuperBytes = 2 * kChunkRows;
  static inline typename Ops::Floats Scale(const ScaleRecords& at, int64_t row) {
    const typename Ops::Floats sub =
        Ops::MulAdd(Ops::LoadBytes(at.block + row), Ops::Broadcast(1.0f), Ops::Broadcast(-128.0f));
    return Ops::Mul(Ops::LoadHalves(at.super + 2 * row), sub);
  }
};

// What a type's codes are: 4 or 8 bits, with what was added to them.
template <class Ops, class ScalesOfType, bool kFourBits, int kAdded>
struct Columns {
  using Scales = ScalesOfType;
  static constexpr bool kNibbles = kFourBits;
  static constexpr int kOffset = kAdded;
  static constexpr int64_t kBits = kNibbles ? 4 : 8;
  static constexpr int64_t kLineRows = kLineBytes * 8 / kBits;
  static constexpr int64_t kChunkBytes = kChunkRows * kBits / 8;
};

// ---- One group of columns for one chunk of rows

// Where the codes and scales of a group lie, of one chunk.
struct GroupPlace {
  const uint8_t* codes;  // of its first column
  int64_t column_bytes;  // to the next one's
  ScaleRecords scales;
};

// Consecutive rows that lane 0 of word vector i of byte vector v belongs to, in the rows of one nibble.
template <class Ops>
constexpr int64_t RowOf(int v, int i) {
  if constexpr (Ops::kLanes == 1) return 16 * (v % 4) + 4 * (v / 4) + i;
  return 16 * i + v * Ops::kLanes;
}

// sums[r] += the group's part for the chunk's rows r. `ahead` with its columns: what to prefetch.
template <class Ops, class Format>
__attribute__((noinline)) void AddGroup(const GroupPlace& at, const ListedGroup& group, const int8_t* values,
                                        const uint8_t* places, const GroupPlace& ahead,
                                        const uint8_t* columns_ahead, int64_t n_ahead, float* sums) {
  using Scales = typename Format::Scales;
  using Sum = typename Ops::template SumOf<Format::kNibbles>;
  constexpr int kHalves = Format::kNibbles ? 2 : 1;
  constexpr int kVectorBytes = 4 * Ops::kLanes;
  for (int64_t byte = 0; byte < Scales::kGroupBytes; byte += kLineBytes)
    __builtin_prefetch(ahead.scales.block + byte);
  for (int64_t line = 0; line < Format::kChunkBytes; line += kLineBytes) {
    for (int64_t i = 0; i < n_ahead; ++i)
      __builtin_prefetch(ahead.codes + columns_ahead[i] * ahead.column_bytes + line);
    for (int v = 0; v < kLineBytes / kVectorBytes; ++v) {
      const uint8_t* codes = at.codes + line + v * kVectorBytes;
      Sum products[kHalves][4];
#pragma GCC unroll 8
      for (int i = 0; i < 4 * kHalves; ++i) products[i / 4][i % 4] = Sum::Start(-Format::kOffset * group.sum);
      for (int64_t listed = 0; listed < group.listed; listed += 4) {
        typename Ops::Bytes column[4], words[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) column[j] = Ops::LoadWords(codes + places[listed + j] * at.column_bytes);
        const typename Ops::Quad quad = Ops::LoadQuad(values + listed);
        typename Ops::Bytes part[4];
#pragma GCC unroll 2
        for (int half = 0; half < kHalves; ++half) {
#pragma GCC unroll 4
          for (int j = 0; j < 4; ++j)
            part[j] = !Format::kNibbles ? Ops::PrepareBytes(column[j])
                      : half == 0       ? Ops::LowNibbles(column[j])
                                        : Ops::HighNibbles(column[j]);
          Ops::Transpose(part, words);
#pragma GCC unroll 4
          for (int i = 0; i < 4; ++i) products[half][i].Add(words[i], quad);
        }
      }
#pragma GCC unroll 8
      for (int k = 0; k < 4 * kHalves; ++k) {
        const int64_t row = line / kLineBytes * Format::kLineRows + k / 4 * 64 + RowOf<Ops>(v, k % 4);
        const typename Ops::Floats product = products[k / 4][k % 4].Total(-Format::kOffset * group.sum);
        typename Ops::Floats sum =
            Ops::MulAdd(product, Ops::Mul(Scales::Scale(at.scales, row), Ops::Broadcast(group.scale)),
                        Ops::Load(sums + row));
        if constexpr (Scales::kMinimum)
          sum = Ops::MulAdd(Scales::Minimum(at.scales, row), Ops::Broadcast(group.scaled_sum), sum);
        Ops::Store(sum, sums + row);
      }
    }
  }
}

// ---- Strips

// One strip of a matrix.
template <class Format>
class Strip {
 public:
  Strip(const ColumnView& w, int64_t index)
      : layout_(w.layout),
        rows_(std::min(kStripRows, w.chunks() * kChunkRows - index * kStripRows)),
        data_(reinterpret_cast<const uint8_t*>(w.data) + index * kStripRows * w.layout.row_bytes) {}

  // Of group g and chunk c of the strip.
  GroupPlace At(int64_t g, int64_t c) const {
    constexpr int64_t kGroups = kColumnBlock / Format::Scales::kGroupColumns;  // of a block
    const int64_t block = g / kGroups, column_bytes = rows_ * Format::kBits / 8;
    const uint8_t* super =
        data_ + block / kSuperBlocks * rows_ * (layout_.super_bytes + kSuperBlocks * layout_.block_bytes());
    const uint8_t* records =
        super + rows_ * (layout_.super_bytes + block % kSuperBlocks * layout_.block_bytes());
    const uint8_t* codes = records + rows_ * layout_.scale_bytes + c * Format::kChunkBytes;
    return {codes + g % kGroups * Format::Scales::kGroupColumns * column_bytes,
            column_bytes,
            {records + (c * kGroups + g % kGroups) * Format::Scales::kGroupBytes,
             super + c * Format::Scales::kSuperBytes}};
  }

 private:
  const ColumnLayout& layout_;
  const int64_t rows_;
  const uint8_t* const data_;
};

// y of at most kColumnTokens tokens and of chunks [begin, end) of one strip.
template <class Ops, class Format>
void AddStrip(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x, int64_t token,
              int64_t tokens, MatrixView<float> y) {
  alignas(64) float sums[kColumnTokens][kStripRows];
  for (int64_t t = 0; t < tokens; ++t)
    std::memset(sums[t], 0, static_cast<size_t>((end - begin) * kChunkRows) * sizeof(float));
  const int64_t index = begin / kStripChunks, first = index * kStripChunks;
  const Strip<Format> strip(w, index), next(w, std::min(index + 1, (w.chunks() - 1) / kStripChunks));
  const int64_t n_groups = x.groups.cols;
  for (int64_t g = 0; g < n_groups; ++g) {
    // Past the last group: the first ones of the next strip.
    const bool within = g + kGroupsAhead < n_groups;
    const int64_t g_ahead = within ? g + kGroupsAhead : std::min(g + kGroupsAhead - n_groups, n_groups - 1);
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const GroupPlace at = strip.At(g, chunk - first);
      const GroupPlace ahead = (within ? strip : next).At(g_ahead, chunk - first);
      for (int64_t t = token; t < token + tokens; ++t) {
        const ListedGroup& group = x.groups.row_data(t)[g];
        if (group.listed == 0) continue;
        const int64_t column = g * Format::Scales::kGroupColumns;
        AddGroup<Ops, Format>(at, group, x.values.row_data(t) + column, x.places.row_data(t) + column, ahead,
                              x.places.row_data(t) + g_ahead * Format::Scales::kGroupColumns,
                              x.groups.row_data(t)[g_ahead].listed,
                              sums[t - token] + (chunk - begin) * kChunkRows);
      }
    }
  }
  const int64_t row = begin * kChunkRows, rows = std::min(w.rows - row, (end - begin) * kChunkRows);
  for (int64_t t = 0; t < tokens; ++t)
    std::memcpy(y.row_data(token + t) + row, sums[t], static_cast<size_t>(rows) * sizeof(float));
}

template <class Ops, class Format>
void AddChunks(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
               MatrixView<float> y) {
  while (begin < end) {
    const int64_t strip_end = std::min(end, (begin / kStripChunks + 1) * kStripChunks);
    for (int64_t token = 0; token < x.values.rows; token += kColumnTokens)
      AddStrip<Ops, Format>(w, begin, strip_end, x, token, std::min(kColumnTokens, x.values.rows - token), y);
    begin = strip_end;
  }
}

template <class Ops>
void MatMulListed(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                  MatrixView<float> y) {
  constexpr int kByte = Ops::kByteOffset;
  switch (w.type) {
    case ElementType::kQ4_0:
      return AddChunks<Ops, Columns<Ops, HalfScales<Ops>, true, 8>>(w, begin, end, x, y);
    case ElementType::kQ4_1:
      return AddChunks<Ops, Columns<Ops, HalfScalesAndMinima<Ops>, true, 0>>(w, begin, end, x, y);
    case ElementType::kQ4_K:
      return AddChunks<Ops, Columns<Ops, SubScales<Ops>, true, 0>>(w, begin, end, x, y);
    case ElementType::kQ5_1:
      return AddChunks<Ops, Columns<Ops, HalfScalesAndMinima<Ops>, false, kByte>>(w, begin, end, x, y);
    case ElementType::kQ5_K:
      return AddChunks<Ops, Columns<Ops, SubScales<Ops>, false, kByte>>(w, begin, end, x, y);
    case ElementType::kQ6_K:
      return AddChunks<Ops, Columns<Ops, SignedSubScales<Ops>, false, kByte>>(w, begin, end, x, y);
    default:  // Q8_0, and Q5_0 as bytes
      return AddChunks<Ops, Columns<Ops, HalfScales<Ops>, false, kByte>>(w, begin, end, x, y);
  }
}

}  // namespace THERMOCLINE_TILES
}  // namespace thermocline
