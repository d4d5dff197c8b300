// Causal grouped-query attention of a tile of tokens and heads, with a running softmax.
// SPDX-License-Identifier: Apache-2.0
//
// A row is one (token, head) pair. All rows of a tile walk the same positions in blocks of 64 that start at
// multiples of 64; a block's keys and values are read while they are in the first caches. What a row computes
// does not depend on its companions: a score is one sum over the columns in order, an output element one sum
// over the row's positions in order.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/attention.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/cache_control.h"
#include "hwy/contrib/math/math-inl.h"
#include "kernels_cpu/activations-inl.h"
#include "kernels_cpu/targets-inl.h"
#include "kernels_cpu/vectors-inl.h"

#ifndef THERMOCLINE_KERNELS_CPU_ATTENTION_CC_  // once, for all targets
#define THERMOCLINE_KERNELS_CPU_ATTENTION_CC_
#include <cstddef>
#include <limits>

namespace thermocline {
namespace {

constexpr int64_t kBlockPages = 4;
constexpr int64_t kBlockPositions = kBlockPages * kKvPageTokens;
constexpr int64_t kMostLanes = 16;
constexpr int64_t kMostGroupRows = 6;  // rows that share registers

constexpr int64_t PaddedColumns(int64_t d_head) {
  return (d_head + kMostLanes - 1) / kMostLanes * kMostLanes;
}

}  // namespace
}  // namespace thermocline
#endif

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

constexpr int kPageVectors = static_cast<int>(kKvPageTokens / kLanes);
// Vectors beside one row, two rows and more rows: as many sums as registers hold.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kVectorsOf2 = 8, kVectorsOfMore = 4;
#else
constexpr int kVectorsOf2 = 4, kVectorsOfMore = 2;
#endif
constexpr int VectorsOf(int rows) { return rows == 1 ? 8 : rows == 2 ? kVectorsOf2 : kVectorsOfMore; }

// ---- Elements. Addresses are within a head's keys or values of one page.

template <ElementType kType>
struct Kv {
  static constexpr bool kScaled = kType == ElementType::kQ8_0;
  static constexpr int64_t kBytes = kType == ElementType::kF32 ? 4 : kScaled ? 1 : 2;

  static HWY_INLINE F32 Load(const uint8_t* source) {
    if constexpr (kType == ElementType::kF32) {
      return LoadElements(F32Tag(), source);
    } else if constexpr (kScaled) {
      return hn::ConvertTo(F32Tag(),
                           hn::PromoteTo(I32Tag(), LoadElements(hn::Rebind<int8_t, F32Tag>(), source)));
    } else {
      return LoadHalves(source);
    }
  }
  // Columns that are summed before a scale is applied.
  static HWY_INLINE int64_t ScaleColumns(int64_t d_head) { return kScaled ? kKvScaleColumns : d_head; }
  // Keys of `column`, a multiple of ScaleColumns, and the kPageVectors vectors of each column from there.
  static HWY_INLINE const uint8_t* KeysAt(const uint8_t* keys, int64_t column) {
    if constexpr (kScaled) return KeyScales(keys, column) + offsetof(KvBlock, bytes);
    return keys + column * kKvPageTokens * kBytes;
  }
  static HWY_INLINE const uint8_t* KeyScales(const uint8_t* keys, int64_t column) {
    return keys + column / kKvScaleColumns * static_cast<int64_t>(sizeof(KvBlock));
  }
  static HWY_INLINE const uint8_t* ValueAt(const uint8_t* values, int64_t place, int64_t column,
                                           int64_t d_head) {
    if constexpr (kScaled) {
      return KeyScales(values, column) + offsetof(KvBlock, bytes) + place * kKvScaleColumns +
             column % kKvScaleColumns;
    }
    return values + (place * d_head + column) * kBytes;
  }
};

// Asks for the cache line at base + offset, once a line where offsets go up in steps of a part of a line.
HWY_INLINE void PrefetchLine(const uint8_t* base, int64_t offset) {
  constexpr int64_t kLine = 64;
  if (offset % kLine == 0) hwy::Prefetch(base + offset);
}

// ---- Rows

struct Row {
  const float* query;   // (d_head)
  float* output;        // (d_head)
  float* sum;           // (PaddedColumns(d_head)), values times weights so far
  float* weights;       // (kBlockPositions), of the block: scores, then weights
  float* weight_sums;   // (kMostLanes), lane by lane
  float* scaled;        // (d_head / 32, kBlockPositions), weights times scales; of one group at a time
  float maximum;        // of the scores so far
  int64_t begin, end;   // positions that it sees
  int64_t first, last;  // the same within the block, first >= last where there are none
};

// One block of positions of a KV head.
struct Block {
  const uint8_t* keys[kBlockPages];  // pages that no row sees repeat one that is seen
  const uint8_t* next[kBlockPages];  // the next block's keys
  int64_t value_offset, d_head;
  bool prefetches;  // the first rows of a block fetch what is read after it: its values, then the next keys

  const uint8_t* values(int64_t page) const { return keys[page] + value_offset; }
};

// weights[p] = query . key of position p, for kRows rows and all positions of the block.
template <class Type, int kRows>
HWY_INLINE void Score(const Row* rows, const Block& block) {
  constexpr int kBlockVectors = static_cast<int>(kBlockPositions / kLanes);
  constexpr int kVectors = HWY_MIN(VectorsOf(kRows), kBlockVectors);
  const int64_t d_head = block.d_head, columns = Type::ScaleColumns(d_head);
  for (int first = 0; first < kBlockVectors; first += kVectors) {
    for (int64_t begin = 0; begin < d_head; begin += columns) {
      const uint8_t* keys[kVectors];
      F32 sums[kRows][kVectors];
      THERMOCLINE_UNROLL(8)
      for (int v = 0; v < kVectors; ++v) {
        const int part = (first + v) % kPageVectors;
        keys[v] = Type::KeysAt(block.keys[(first + v) / kPageVectors], begin) + part * kLanes * Type::kBytes;
        THERMOCLINE_UNROLL(6)
        for (int r = 0; r < kRows; ++r) sums[r][v] = hn::Zero(F32Tag());
      }
      for (int64_t c = 0; c < columns; ++c) {
        if (block.prefetches && first == 0) {
          for (int64_t page = 0; page < kBlockPages; ++page)
            PrefetchLine(block.values(page), (begin + c) * kKvPageTokens * Type::kBytes);
        }
        F32 key[kVectors];
        THERMOCLINE_UNROLL(8)
        for (int v = 0; v < kVectors; ++v) key[v] = Type::Load(keys[v] + c * kKvPageTokens * Type::kBytes);
        THERMOCLINE_UNROLL(6)
        for (int r = 0; r < kRows; ++r) {
          const F32 query = hn::Set(F32Tag(), rows[r].query[begin + c]);
          THERMOCLINE_UNROLL(8)
          for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(query, key[v], sums[r][v]);
        }
      }
      for (int v = 0; v < kVectors; ++v) {
        F32 scale = hn::Zero(F32Tag());
        if constexpr (Type::kScaled) {
          scale = LoadHalves(Type::KeyScales(block.keys[(first + v) / kPageVectors], begin) +
                             (first + v) % kPageVectors * kLanes * 2);
        }
        for (int r = 0; r < kRows; ++r) {
          float* const to = rows[r].weights + (first + v) * kLanes;
          if constexpr (Type::kScaled) {
            const F32 before = begin == 0 ? hn::Zero(F32Tag()) : hn::LoadU(F32Tag(), to);
            hn::StoreU(hn::MulAdd(scale, sums[r][v], before), F32Tag(), to);
          } else {
            hn::StoreU(sums[r][v], F32Tag(), to);
          }
        }
      }
    }
  }
}

// weights[i] = cap * tanh(weights[i] * scale / cap), i in [begin, end), multiples of kLanes.
void CapScores(float* weights, int64_t begin, int64_t end, float scale, float cap) {
  const F32Tag f32;
  const F32 outer = hn::Set(f32, cap), inner = hn::Set(f32, scale / cap);
  for (int64_t i = begin; i < end; i += kLanes)
    hn::StoreU(hn::Mul(outer, TanhOf(hn::Mul(hn::LoadU(f32, weights + i), inner))), f32, weights + i);
}

void ScaleBy(F32 factor, float* values, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes)
    hn::StoreU(hn::Mul(factor, hn::LoadU(F32Tag(), values + i)), F32Tag(), values + i);
}

// Scores to weights, relative to the largest score so far. A new maximum scales down what there is.
void Weigh(Row& row, int64_t padded_columns, float scale, float soft_cap) {
  const F32Tag f32;
  float* const weights = row.weights;
  const int64_t begin = row.first / kLanes * kLanes, end = (row.last + kLanes - 1) / kLanes * kLanes;
  if (soft_cap > 0) {
    CapScores(weights, begin, end, scale, soft_cap);
    scale = 1;
  }
  // What the row does not see weighs nothing.
  for (int64_t i = begin; i < row.first; ++i) weights[i] = hwy::LowestValue<float>();
  for (int64_t i = row.last; i < end; ++i) weights[i] = hwy::LowestValue<float>();

  F32 largest = hn::LoadU(f32, weights + begin);
  for (int64_t i = begin + kLanes; i < end; i += kLanes)
    largest = hn::Max(largest, hn::LoadU(f32, weights + i));
  const float maximum = hn::GetLane(hn::MaxOfLanes(f32, largest));
  const F32 factor = hn::Set(f32, scale);
  if (maximum > row.maximum) {
    const F32 shrink = hn::Exp(f32, hn::Mul(hn::Set(f32, row.maximum - maximum), factor));
    ScaleBy(shrink, row.sum, padded_columns);
    ScaleBy(shrink, row.weight_sums, kLanes);
    row.maximum = maximum;
  }
  const F32 peak = hn::Set(f32, row.maximum);
  F32 sum = hn::LoadU(f32, row.weight_sums);
  for (int64_t i = begin; i < end; i += kLanes) {
    const F32 weight = hn::Exp(f32, hn::Mul(hn::Sub(hn::LoadU(f32, weights + i), peak), factor));
    hn::StoreU(weight, f32, weights + i);
    sum = hn::Add(sum, weight);
  }
  hn::StoreU(sum, f32, row.weight_sums);
}

// sum[c..] += weight * value over the places [first, last) of the block, for kRows rows and kVectors vectors
// of columns.
template <class Type, int kRows, int kVectors>
HWY_INLINE void AddValues(const Row* rows, const Block& block, int64_t first, int64_t last, int64_t column) {
  // Where values have scales, those of this many blocks are among the columns.
  constexpr int64_t kColumns = kVectors * kLanes;
  constexpr int kScales = Type::kScaled ? static_cast<int>(HWY_MAX(1, kColumns / kKvScaleColumns)) : 1;
  constexpr int kOfScale = kVectors / kScales;
  F32 sums[kRows][kVectors];
  const float* weights[kRows];
  for (int r = 0; r < kRows; ++r) {
    weights[r] =
        Type::kScaled ? rows[r].scaled + column / kKvScaleColumns * kBlockPositions : rows[r].weights;
    THERMOCLINE_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::LoadU(F32Tag(), rows[r].sum + column + v * kLanes);
  }
  for (int64_t page = first / kKvPageTokens; page * kKvPageTokens < last; ++page) {
    const uint8_t* HWY_RESTRICT values = block.values(page);
    const int64_t begin = page * kKvPageTokens, end = HWY_MIN(last, begin + kKvPageTokens);
    for (int64_t p = HWY_MAX(first, begin); p < end; ++p) {
      if (block.prefetches) {
        for (int v = 0; v < kVectors; ++v)
          PrefetchLine(block.next[page], ((p - begin) * block.d_head + column + v * kLanes) * Type::kBytes);
      }
      F32 value[kVectors];
      THERMOCLINE_UNROLL(8)
      for (int v = 0; v < kVectors; ++v)
        value[v] = Type::Load(Type::ValueAt(values, p - begin, column + v * kLanes, block.d_head));
      THERMOCLINE_UNROLL(6)
      for (int r = 0; r < kRows; ++r) {
        THERMOCLINE_UNROLL(8)
        for (int s = 0; s < kScales; ++s) {
          const F32 weight = hn::Set(F32Tag(), weights[r][s * kBlockPositions + p]);
          THERMOCLINE_UNROLL(8)
          for (int v = s * kOfScale; v < (s + 1) * kOfScale; ++v)
            sums[r][v] = hn::MulAdd(weight, value[v], sums[r][v]);
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    THERMOCLINE_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], F32Tag(), rows[r].sum + column + v * kLanes);
  }
}

// All columns from `column` on, the widest steps first.
template <class Type, int kRows, int kVectors = VectorsOf(kRows)>
HWY_INLINE void AddColumns(const Row* rows, const Block& block, int64_t first, int64_t last,
                           int64_t column = 0) {
  for (; column + (kVectors - 1) * kLanes < block.d_head; column += kVectors * kLanes)
    AddValues<Type, kRows, kVectors>(rows, block, first, last, column);
  if constexpr (kVectors > 1) AddColumns<Type, kRows, kVectors / 2>(rows, block, first, last, column);
}

// scaled[b][p] = weights[p] * scale of position p in block b of columns.
template <class Type>
void ScaleWeights(const Row& row, const Block& block) {
  for (int64_t column = 0; column < block.d_head; column += kKvScaleColumns) {
    float* const to = row.scaled + column / kKvScaleColumns * kBlockPositions;
    for (int64_t p = row.first / kLanes * kLanes; p < row.last; p += kLanes) {
      const F32 scale =
          LoadHalves(Type::KeyScales(block.values(p / kKvPageTokens), column) + p % kKvPageTokens * 2);
      hn::StoreU(hn::Mul(scale, hn::LoadU(F32Tag(), row.weights + p)), F32Tag(), to + p);
    }
  }
}

// One block for kRows rows.
template <class Type, int kRows>
void AttendGroup(Row* rows, const Block& block, float scale, float soft_cap) {
  bool any = false;
  for (int r = 0; r < kRows; ++r) any = any || rows[r].first < rows[r].last;
  if (!any) return;
  Score<Type, kRows>(rows, block);

  // Places that all rows add together, and those that single ones go on with.
  const int64_t first = rows[0].first;
  int64_t last = rows[0].last;
  bool alike = true;
  for (int r = 0; r < kRows; ++r) {
    Row& row = rows[r];
    alike = alike && row.first == first && row.first < row.last;
    last = HWY_MIN(last, row.last);
    if (row.first >= row.last) continue;
    Weigh(row, PaddedColumns(block.d_head), scale, soft_cap);
    if constexpr (Type::kScaled) ScaleWeights<Type>(row, block);
  }
  if (alike) AddColumns<Type, kRows>(rows, block, first, last);
  for (int r = 0; r < kRows; ++r) {
    const int64_t from = alike ? last : rows[r].first;
    if (from < rows[r].last) AddColumns<Type, 1>(rows + r, block, from, rows[r].last);
  }
}

template <class Type>
void AttendRows(const AttentionArgs& args, const int32_t* pages, const uint8_t* cache, Row* rows,
                int64_t n_rows) {
  int64_t first = rows[0].begin, last = rows[0].end;
  for (int64_t r = 1; r < n_rows; ++r) {
    first = HWY_MIN(first, rows[r].begin);
    last = HWY_MAX(last, rows[r].end);
  }
  const int64_t page_bytes = args.layout.page_bytes();
  Block block{.keys = {},
              .next = {},
              .value_offset = args.layout.value_offset(),
              .d_head = args.layout.d_head,
              .prefetches = true};
  for (int64_t at = first / kBlockPositions * kBlockPositions; at < last; at += kBlockPositions) {
    for (int64_t page = 0; page < kBlockPages; ++page) {
      const int64_t seen =
          HWY_MIN(HWY_MAX(at / kKvPageTokens + page, first / kKvPageTokens), (last - 1) / kKvPageTokens);
      block.keys[page] = cache + pages[seen] * page_bytes;
      block.next[page] = cache + pages[HWY_MIN(seen + kBlockPages, (last - 1) / kKvPageTokens)] * page_bytes;
    }
    block.prefetches = true;
    for (int64_t r = 0; r < n_rows; ++r) {
      rows[r].first = HWY_MAX(rows[r].begin - at, 0);
      rows[r].last = HWY_MIN(rows[r].end - at, kBlockPositions);
    }
    int64_t r = 0;
    for (; r + 6 <= n_rows; r += 6) {
      AttendGroup<Type, 6>(rows + r, block, args.scale, args.soft_cap);
      block.prefetches = false;
    }
    if (r + 4 <= n_rows) {
      AttendGroup<Type, 4>(rows + r, block, args.scale, args.soft_cap);
      r += 4;
    }
    if (r + 2 <= n_rows) {
      AttendGroup<Type, 2>(rows + r, block, args.scale, args.soft_cap);
      r += 2;
    }
    if (r < n_rows) AttendGroup<Type, 1>(rows + r, block, args.scale, args.soft_cap);
  }
}

}  // namespace

void Attention(const AttentionArgs& args, const AttentionTile& tile, std::span<float> scratch) {
  const int64_t d_head = args.layout.d_head, padded = PaddedColumns(d_head);
  const int64_t heads = tile.head_end - tile.head_begin;
  const int64_t n_rows = (tile.token_end - tile.token_begin) * heads;
  const int64_t kv_head = tile.head_begin / (args.n_heads / args.layout.n_kv_heads);
  HWY_DASSERT(n_rows >= 1 && n_rows <= kAttentionRows &&
              static_cast<int64_t>(scratch.size()) >= AttentionScratchSize(d_head));
  float* const shared = scratch.data() + kAttentionRows * (padded + kBlockPositions + kMostLanes);
  Row rows[kAttentionRows];
  for (int64_t r = 0; r < n_rows; ++r) {
    const int64_t token = tile.token_begin + r / heads, head = tile.head_begin + r % heads;
    const AttentionToken& seen = args.tokens[static_cast<size_t>(token)];
    float* const own = scratch.data() + r * (padded + kBlockPositions + kMostLanes);
    rows[r] = {.query = args.queries.row_data(token) + head * d_head,
               .output = args.output.row_data(token) + head * d_head,
               .sum = own,
               .weights = own + padded,
               .weight_sums = own + padded + kBlockPositions,
               .scaled = shared + r % kMostGroupRows * (padded / kKvScaleColumns * kBlockPositions),
               .maximum = -std::numeric_limits<float>::infinity(),
               .begin = seen.first_position,
               .end = seen.n_positions,
               .first = 0,
               .last = 0};
    std::memset(own, 0, static_cast<size_t>(padded + kBlockPositions + kMostLanes) * sizeof(float));
  }
  const int32_t* const pages = args.tokens[static_cast<size_t>(tile.token_begin)].pages;
  const auto* const cache = reinterpret_cast<const uint8_t*>(args.cache) + kv_head * args.layout.head_bytes();
  switch (args.layout.type) {
    case ElementType::kF32:
      AttendRows<Kv<ElementType::kF32>>(args, pages, cache, rows, n_rows);
      break;
    case ElementType::kQ8_0:
      AttendRows<Kv<ElementType::kQ8_0>>(args, pages, cache, rows, n_rows);
      break;
    default:
      AttendRows<Kv<ElementType::kF16>>(args, pages, cache, rows, n_rows);
      break;
  }
  for (int64_t r = 0; r < n_rows; ++r) {
    const F32 factor = hn::Set(F32Tag(), 1.0f / SumLanes(hn::LoadU(F32Tag(), rows[r].weight_sums)));
    ScaleBy(factor, rows[r].sum, padded);
    std::memcpy(rows[r].output, rows[r].sum, static_cast<size_t>(d_head) * sizeof(float));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thermocline {

int64_t AttentionScratchSize(int64_t d_head) {
  const int64_t padded = PaddedColumns(d_head);
  return kAttentionRows * (padded + kBlockPositions + kMostLanes) +
         kMostGroupRows * (padded / kKvScaleColumns * kBlockPositions);
}

}  // namespace thermocline
#endif  // HWY_ONCE
