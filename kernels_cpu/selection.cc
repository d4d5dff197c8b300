// Selection of neurons: scores against thresholds to lists of rows, and sign bits to scores.
// SPDX-License-Identifier: Apache-2.0
//
// No branch depends on a score: comparisons become bits, and lists are written by compressing vectors.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/selection.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/targets-inl.h"
#include "kernels_cpu/vectors-inl.h"

#include <bit>

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kWordVectors = 64 / kLanes;

using U64Tag = hn::ScalableTag<uint64_t>;
constexpr int64_t kWordLanes = hn::MaxLanes(U64Tag());

HWY_INLINE uint64_t BitsOf(hn::Mask<F32Tag> mask) {
  uint8_t bytes[8] = {};
  hn::StoreMaskBits(F32Tag(), mask, bytes);
  return LoadU16(bytes) & ((uint64_t{1} << kLanes) - 1);
}

// Lists the neurons of one word: the vectors of `masks` that are not zero, as row, row + 1, ...; writes whole
// vectors.
HWY_INLINE int64_t ListWord(const U32* masks, int64_t vectors, uint32_t row, uint32_t* rows,
                            uint32_t* tokens) {
  const U32Tag u32;
  int64_t listed = 0;
  for (int64_t k = 0; k < vectors; ++k) {
    const U32 indices = hn::Iota(u32, row + static_cast<uint32_t>(k * kLanes));
    const auto needed = hn::Ne(masks[k], hn::Zero(u32));
    hn::StoreU(hn::Compress(indices, needed), u32, rows + listed);
    hn::StoreU(hn::Compress(masks[k], needed), u32, tokens + listed);
    listed += static_cast<int64_t>(hn::CountTrue(u32, needed));
  }
  return listed;
}

HWY_INLINE uint64_t CountDifferent(const uint64_t* a, const uint64_t* b, int64_t words) {
  const U64Tag u64;
  auto counts = hn::Zero(u64);
  int64_t w = 0;
  for (; w + kWordLanes <= words; w += kWordLanes)
    counts = hn::Add(counts, hn::PopulationCount(hn::Xor(hn::LoadU(u64, a + w), hn::LoadU(u64, b + w))));
  uint64_t count = hn::GetLane(hn::SumOfLanes(u64, counts));
  for (; w < words; ++w) count += static_cast<uint64_t>(std::popcount(a[w] ^ b[w]));
  return count;
}

}  // namespace

int64_t SelectActive(MatrixView<const float> scores, std::span<const float> thresholds,
                     MatrixView<uint64_t> bits, uint32_t first_row, std::span<uint32_t> rows,
                     std::span<TokenMask> tokens) {
  HWY_DASSERT(scores.rows <= kMostSparseTokens && std::ssize(thresholds) == scores.rows);
  HWY_DASSERT(std::ssize(rows) >= scores.cols && std::ssize(tokens) >= scores.cols);
  const U32Tag u32;
  // A word's list, with room for the whole vectors that compression stores.
  HWY_ALIGN uint32_t word_rows[64 + kLanes];
  HWY_ALIGN uint32_t word_tokens[64 + kLanes];
  int64_t listed = 0;
  for (int64_t word = 0; word < BitWords(scores.cols); ++word) {
    const int64_t count = HWY_MIN(int64_t{64}, scores.cols - word * 64);
    const int64_t vectors = (count + kLanes - 1) / kLanes;
    U32 masks[kWordVectors];
    for (int64_t k = 0; k < vectors; ++k) masks[k] = hn::Zero(u32);
    for (int64_t t = 0; t < scores.rows; ++t) {
      const F32 threshold = hn::Set(F32Tag(), thresholds[static_cast<size_t>(t)]);
      const U32 token = hn::Set(u32, uint32_t{1} << t);
      const float* source = scores.row_data(t) + word * 64;
      uint64_t packed = 0;
      for (int64_t k = 0; k < vectors; ++k) {
        const int64_t lanes = HWY_MIN(kLanes, count - k * kLanes);
        const auto reached = hn::And(hn::Ge(LoadUpTo(source + k * kLanes, lanes), threshold),
                                     hn::FirstN(F32Tag(), static_cast<size_t>(lanes)));
        packed |= BitsOf(reached) << (k * kLanes);
        masks[k] = hn::Or(masks[k], hn::IfThenElseZero(hn::RebindMask(u32, reached), token));
      }
      bits.row_data(t)[word] = packed;
    }
    const auto found = static_cast<size_t>(
        ListWord(masks, vectors, first_row + static_cast<uint32_t>(word * 64), word_rows, word_tokens));
    std::memcpy(rows.data() + listed, word_rows, found * sizeof(uint32_t));
    for (size_t i = 0; i < found; ++i)
      tokens[static_cast<size_t>(listed) + i] = static_cast<TokenMask>(word_tokens[i]);
    listed += static_cast<int64_t>(found);
  }
  return listed;
}

int64_t SelectColumns(MatrixView<float> x, float threshold, std::span<uint32_t> columns) {
  HWY_DASSERT(std::ssize(columns) >= x.cols);
  const F32Tag f32;
  const U32Tag u32;
  const F32 least = hn::Set(f32, threshold);
  HWY_ALIGN uint32_t found[kLanes];  // the whole vector that compression stores
  int64_t listed = 0;
  for (int64_t c = 0; c < x.cols; c += kLanes) {
    const int64_t count = HWY_MIN(kLanes, x.cols - c);
    auto needed = hn::FirstN(f32, 0);
    for (int64_t t = 0; t < x.rows; ++t) {
      float* at = x.row_data(t) + c;
      const F32 value = LoadUpTo(at, count);
      const F32 kept = hn::IfThenZeroElse(hn::Lt(hn::Abs(value), least), value);
      // Not Ne: that NaN differs from 0 is not the same on every target.
      needed = hn::Or(needed, hn::Not(hn::Eq(kept, hn::Zero(f32))));
      if (count == kLanes) {
        hn::StoreU(kept, f32, at);
      } else {
        StorePartial(kept, at, count);
      }
    }
    const auto mask = hn::RebindMask(u32, needed);
    hn::Store(hn::Compress(hn::Iota(u32, static_cast<uint32_t>(c)), mask), u32, found);
    const size_t n_found = hn::CountTrue(u32, mask);
    std::memcpy(columns.data() + listed, found, n_found * sizeof(uint32_t));
    listed += static_cast<int64_t>(n_found);
  }
  return listed;
}

void PackSigns(std::span<const float> row, std::span<uint64_t> words) {
  const auto cols = static_cast<int64_t>(row.size());
  HWY_DASSERT(std::ssize(words) == BitWords(cols));
  for (int64_t word = 0; word < BitWords(cols); ++word) {
    const int64_t count = HWY_MIN(int64_t{64}, cols - word * 64);
    uint64_t packed = 0;
    for (int64_t c = 0; c < count; c += kLanes) {
      const F32 values = LoadUpTo(row.data() + word * 64 + c, HWY_MIN(kLanes, count - c));
      packed |= BitsOf(hn::Lt(values, hn::Zero(F32Tag()))) << c;
    }
    words[static_cast<size_t>(word)] = packed;
  }
}

void SignAgreement(MatrixView<const uint64_t> signs, MatrixView<const uint64_t> inputs, int64_t cols,
                   MatrixView<float> scores) {
  HWY_DASSERT(signs.cols == inputs.cols && scores.rows == inputs.rows && scores.cols == signs.rows);
  for (int64_t i = 0; i < signs.rows; ++i) {
    for (int64_t t = 0; t < inputs.rows; ++t) {
      const uint64_t different = CountDifferent(signs.row_data(i), inputs.row_data(t), signs.cols);
      scores.row_data(t)[i] = static_cast<float>(cols - 2 * static_cast<int64_t>(different));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
