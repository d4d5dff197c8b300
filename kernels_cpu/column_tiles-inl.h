// Products of columns with listed activations, written once over the vector operations of an instruction set.
// SPDX-License-Identifier: Apache-2.0
//
// Included inside a target's region with THERMOCLINE_TILES set, as packed_tiles-inl.h is, and over the same
// `Ops`, which must besides have Load (floats) and Transpose (four vectors of bytes, of four columns, to four
// vectors of words, a row's four columns in each).
//
// sums(t, r) = the sum over the token's groups of columns that list anything, ascending, of scale_w * scale_x
// * (the integer product), each by one multiply-add to the sum so far; types with minima add minimum *
// scaled_sum after each.
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

constexpr int64_t kLineBytes = 64;
constexpr int64_t kColumnAheadBytes = 4096;    // of what is prefetched: no processor guesses what follows
constexpr int64_t kHalfRows = kChunkRows / 2;  // in low or in high nibbles, or in one line of bytes
constexpr int32_t kQuad = 4;                   // entries that are multiplied together
constexpr int64_t kSuperBlocks = 8;            // blocks that share further scales

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
  static constexpr int64_t kChunkBytes = kChunkRows * kBits / 8;
};

// ---- One group of columns

// Where the codes and scales of a group lie, from the first row on.
struct GroupPlace {
  const uint8_t* codes;  // of its first column
  int64_t column_bytes;  // to the next one's
  ScaleRecords scales;
};

// What one token lists of a group.
struct Entries {
  int32_t listed;
  const int8_t* values;
  const uint8_t* places;
};

// Consecutive rows that lane 0 of word vector i of byte vector v belongs to, in one half of a chunk.
template <class Ops>
constexpr int64_t RowOf(int v, int i) {
  if constexpr (Ops::kLanes == 1) return 16 * (v % 4) + 4 * (v / 4) + i;
  return 16 * i + v * Ops::kLanes;
}

// Prefetches a chunk of the columns of kQuad entries.
template <class Format>
inline void PrefetchQuad(const GroupPlace& at, const uint8_t* places, int64_t chunk) {
#pragma GCC unroll 4
  for (int j = 0; j < kQuad; ++j) {
    const uint8_t* codes = at.codes + places[j] * at.column_bytes + chunk * Format::kChunkBytes;
#pragma GCC unroll 2
    for (int64_t line = 0; line < Format::kChunkBytes; line += kLineBytes) __builtin_prefetch(codes + line);
  }
}

// sums[r] += the group's part for the rows r of n_chunks chunks. What is kColumnAheadBytes further on is
// prefetched, in this group or in `next`, which the token needs after it.
template <class Ops, class Format>
__attribute__((noinline)) void AddGroup(const GroupPlace& at, const Entries& x, const ListedGroup& group,
                                        const GroupPlace& next_at, const Entries& next, int64_t n_chunks,
                                        float* sums) {
  using Scales = typename Format::Scales;
  using Sum = typename Ops::template SumOf<Format::kNibbles>;
  constexpr int kVectorBytes = 4 * Ops::kLanes;
  constexpr int64_t kRecordBytes = kColumnBlock / Scales::kGroupColumns * Scales::kGroupBytes;
  const int32_t start = -Format::kOffset * group.sum;
  const int64_t ahead = std::min(n_chunks, 1 + kColumnAheadBytes / (x.listed * Format::kChunkBytes));
  for (int64_t chunk = 0; chunk < n_chunks; ++chunk) {
    const bool within = chunk + ahead < n_chunks;
    const GroupPlace& far_at = within ? at : next_at;
    const Entries& far = within ? x : next;
    const int64_t far_chunk = within ? chunk + ahead : chunk + ahead - n_chunks;
    for (int64_t byte = 0; byte < Scales::kGroupBytes; byte += kLineBytes)
      __builtin_prefetch(far_at.scales.block + far_chunk * kRecordBytes + byte);
    const ScaleRecords scales = {at.scales.block + chunk * kRecordBytes,
                                 at.scales.super + chunk * Scales::kSuperBytes};
    for (int v = 0; v < kLineBytes / kVectorBytes; ++v) {
      const uint8_t* codes = at.codes + chunk * Format::kChunkBytes + v * kVectorBytes;
      Sum products[2][4];
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) products[i / 4][i % 4] = Sum::Start(start);
      for (int32_t i = 0; i < x.listed; i += kQuad) {
        // Beside the arithmetic: memory takes a long burst no faster.
        if (v == 0 && i < far.listed) PrefetchQuad<Format>(far_at, far.places + i, far_chunk);
        const typename Ops::Quad quad = Ops::LoadQuad(x.values + i);
        typename Ops::Bytes columns[4], words[4];
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          if (half == 0 || !Format::kNibbles) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j)
              columns[j] = Ops::LoadWords(codes + x.places[i + j] * at.column_bytes + half * kLineBytes);
            Ops::Transpose(columns, words);
          }
#pragma GCC unroll 4
          for (int k = 0; k < 4; ++k)
            products[half][k].Add(!Format::kNibbles ? Ops::PrepareBytes(words[k])
                                  : half == 0       ? Ops::LowNibbles(words[k])
                                                    : Ops::HighNibbles(words[k]),
                                  quad);
        }
      }
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        const int64_t row = i / 4 * kHalfRows + RowOf<Ops>(v, i % 4);
        const typename Ops::Floats scale = Ops::Mul(Scales::Scale(scales, row), Ops::Broadcast(group.scale));
        typename Ops::Floats sum =
            Ops::MulAdd(products[i / 4][i % 4].Total(start), scale, Ops::Load(sums + row));
        if constexpr (Scales::kMinimum)
          sum = Ops::MulAdd(Scales::Minimum(scales, row), Ops::Broadcast(group.scaled_sum), sum);
        Ops::Store(sum, sums + row);
      }
    }
    for (int32_t i = x.listed; i < far.listed; i += kQuad)
      PrefetchQuad<Format>(far_at, far.places + i, far_chunk);
    sums += kChunkRows;
  }
}

// ---- Many groups

template <class Format>
GroupPlace PlaceOf(const ColumnView& w, int64_t g) {
  constexpr int64_t kGroups = kColumnBlock / Format::Scales::kGroupColumns;  // of a block
  const ColumnLayout& layout = w.layout;
  const int64_t block = g / kGroups, rows = layout.stride_rows, column_bytes = rows * Format::kBits / 8;
  const uint8_t* super =
      reinterpret_cast<const uint8_t*>(w.data) +
      block / kSuperBlocks * rows * (layout.super_bytes + kSuperBlocks * layout.block_bytes());
  const uint8_t* records = super + rows * (layout.super_bytes + block % kSuperBlocks * layout.block_bytes());
  return {records + rows * layout.scale_bytes + g % kGroups * Format::Scales::kGroupColumns * column_bytes,
          column_bytes,
          {records + g % kGroups * Format::Scales::kGroupBytes, super}};
}

// Tokens take turns at each group while it is in a cache.
template <class Ops, class Format>
void AddGroups(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
               MatrixView<float> sums) {
  const auto entries = [&](int64_t t, int64_t g) {
    const int64_t column = g * Format::Scales::kGroupColumns;
    return Entries{x.groups.row_data(t)[g].listed, x.values.row_data(t) + column,
                   x.places.row_data(t) + column};
  };
  for (int64_t t = 0; t < sums.rows; ++t)
    std::memset(sums.row_data(t), 0, static_cast<size_t>(w.chunks() * kChunkRows) * sizeof(float));
  for (int64_t g = begin; g < end; ++g) {
    const GroupPlace at = PlaceOf<Format>(w, g);
    for (int64_t t = 0; t < sums.rows; ++t) {
      const ListedGroup* groups = x.groups.row_data(t);
      if (groups[g].listed == 0) continue;
      int64_t next = g + 1;  // past `end` too: the same thread is likely to go on there
      while (next < x.groups.cols && groups[next].listed == 0) ++next;
      const bool none = next == x.groups.cols;
      AddGroup<Ops, Format>(at, entries(t, g), groups[g], none ? at : PlaceOf<Format>(w, next),
                            none ? Entries{} : entries(t, next), w.chunks(), sums.row_data(t));
    }
  }
}

template <class Ops>
void MatMulListed(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                  MatrixView<float> sums) {
  constexpr int kByte = Ops::kByteOffset;
  switch (w.type) {
    case ElementType::kQ4_0:
      return AddGroups<Ops, Columns<Ops, HalfScales<Ops>, true, 8>>(w, begin, end, x, sums);
    case ElementType::kQ4_1:
      return AddGroups<Ops, Columns<Ops, HalfScalesAndMinima<Ops>, true, 0>>(w, begin, end, x, sums);
    case ElementType::kQ4_K:
      return AddGroups<Ops, Columns<Ops, SubScales<Ops>, true, 0>>(w, begin, end, x, sums);
    case ElementType::kQ5_1:
      return AddGroups<Ops, Columns<Ops, HalfScalesAndMinima<Ops>, false, kByte>>(w, begin, end, x, sums);
    case ElementType::kQ5_K:
      return AddGroups<Ops, Columns<Ops, SubScales<Ops>, false, kByte>>(w, begin, end, x, sums);
    case ElementType::kQ6_K:
      return AddGroups<Ops, Columns<Ops, SignedSubScales<Ops>, false, kByte>>(w, begin, end, x, sums);
    default:  // Q8_0, and Q5_0 as bytes
      return AddGroups<Ops, Columns<Ops, HalfScales<Ops>, false, kByte>>(w, begin, end, x, sums);
  }
}

}  // namespace THERMOCLINE_TILES
}  // namespace thermocline
