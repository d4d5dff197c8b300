// Weighted sums of weight rows (neuron-major down projection); rows that no token needs are not touched.
// SPDX-License-Identifier: Apache-2.0
//
// Element c of token t is updated by one multiply-add per row with h(t, i) != 0, i ascending, whatever else
// is in the call; rows are only grouped to load and store y less often.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/accumulate_rows.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/cache_control.h"
#include "kernels_cpu/codecs-inl.h"
#include "kernels_cpu/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

constexpr int kGroupRows = 4;           // rows added in one pass over y, one token
constexpr int kBatchRows = 8;           // rows decoded at a time for a batch
constexpr int64_t kChunkColumns = 256;  // columns decoded at a time for a batch: 8 KiB with kBatchRows

// y[c] += sum_r h[r] * rows[r][c], r ascending, for one token. The rows of the next call, `next`, are
// prefetched alongside: the hardware does not foresee which rows are active.
template <class Codec, int kRows>
HWY_NOINLINE void AddRowsOnce(const uint8_t* const* rows, const uint8_t* const* next, const float* h,
                              int64_t count, float* HWY_RESTRICT y) {
  const uint8_t* source[kRows];
  F32 factor[kRows];
  for (int r = 0; r < kRows; ++r) {
    source[r] = rows[r];
    factor[r] = hn::Set(F32Tag(), h[r]);
  }
  for (int64_t b = 0; b < count / Codec::kBlockElements; ++b) {
    typename Codec::Block block[kRows];
    THERMOCLINE_UNROLL(4)
    for (int r = 0; r < kRows; ++r) {
      block[r] = Codec::Open(source[r]);
      for (int64_t byte = 0; byte < Codec::kBlockBytes; byte += 64)
        hwy::Prefetch(next[r] + b * Codec::kBlockBytes + byte);
    }
    for (int step = 0; step < Codec::kSteps; ++step) {
      F32 sum[Codec::kVectors];
      THERMOCLINE_UNROLL(16)
      for (int k = 0; k < Codec::kVectors; ++k) sum[k] = hn::LoadU(F32Tag(), y + k * kLanes);
      THERMOCLINE_UNROLL(4)
      for (int r = 0; r < kRows; ++r) {
        F32 w[Codec::kVectors];
        Codec::Step(block[r], step, w);
        THERMOCLINE_UNROLL(16)
        for (int k = 0; k < Codec::kVectors; ++k) sum[k] = hn::MulAdd(factor[r], w[k], sum[k]);
      }
      THERMOCLINE_UNROLL(16)
      for (int k = 0; k < Codec::kVectors; ++k) hn::StoreU(sum[k], F32Tag(), y + k * kLanes);
      y += Codec::kVectors * kLanes;
    }
    for (int r = 0; r < kRows; ++r) source[r] += Codec::kBlockBytes;
  }
  if constexpr (Codec::kElementBytes > 0) {
    const int64_t tail = count % Codec::kBlockElements;
    if (tail == 0) return;
    for (int r = 0; r < kRows; ++r) {
      F32 w[Codec::kVectors];
      DecodeTail<Codec>(source[r], tail, w);
      for (int64_t k = 0; k * kLanes < tail; ++k) {
        const int64_t left = tail - k * kLanes;
        float* target = y + k * kLanes;
        if (left >= kLanes) {
          hn::StoreU(hn::MulAdd(factor[r], w[k], hn::LoadU(F32Tag(), target)), F32Tag(), target);
        } else {
          StorePartial(hn::MulAdd(factor[r], w[k], LoadPartial(target, left)), target, left);
        }
      }
    }
  }
}

// y += every row that gather gives. gather(rows, factors) fills a group with the next rows and returns how
// many there are, less than kGroupRows at the end. ahead(i): the row that the caller reads i-th after them.
template <class Codec, class Gather, class Ahead>
HWY_INLINE void AddGroups(const Gather& gather, const Ahead& ahead, int64_t count, float* HWY_RESTRICT y) {
  const uint8_t* rows[2][kGroupRows] = {};
  float factors[2][kGroupRows];
  int64_t prefetched = 0;  // of the rows ahead
  int now = 0;
  int found = gather(rows[now], factors[now]);
  while (found == kGroupRows) {
    const int after = gather(rows[1 - now], factors[1 - now]);
    for (int r = after; r < kGroupRows; ++r) rows[1 - now][r] = ahead(prefetched++);
    AddRowsOnce<Codec, kGroupRows>(rows[now], rows[1 - now], factors[now], count, y);
    now = 1 - now;
    found = after;
  }
  for (int r = 0; r < found; ++r) {
    const uint8_t* next = ahead(prefetched++);
    AddRowsOnce<Codec, 1>(rows[now] + r, &next, factors[now] + r, count, y);
  }
}

template <class Codec>
struct OneToken {
  static void Run(const WeightView& w, const float* HWY_RESTRICT h, int64_t column_begin, int64_t column_end,
                  ZeroRows zero_rows, float* HWY_RESTRICT y) {
    const std::byte* first = w.data + column_begin / Codec::kBlockElements * Codec::kBlockBytes;
    const bool skip = zero_rows == ZeroRows::kSkip;
    int64_t next = 0;
    const auto gather = [&](const uint8_t** rows, float* factors) {
      int found = 0;
      for (; next < w.rows && found < kGroupRows; ++next) {
        if (skip && h[next] == 0.0f) continue;
        rows[found] = reinterpret_cast<const uint8_t*>(first + next * w.row_stride_bytes);
        factors[found++] = h[next];
      }
      return found;
    };
    // Past the last row: the next piece of the matrix lies there.
    const auto ahead = [&](int64_t i) {
      return reinterpret_cast<const uint8_t*>(first + (w.rows + i) * w.row_stride_bytes);
    };
    AddGroups<Codec>(gather, ahead, column_end - column_begin, y + column_begin);
  }
};

template <class Codec>
struct AddListedRows {
  static void Run(const RowList& list, const RowList& after, const float* HWY_RESTRICT factors_of_rows,
                  float* HWY_RESTRICT y) {
    int64_t next = 0;
    const auto gather = [&](const uint8_t** rows, float* factors) {
      int found = 0;
      for (; next < list.size() && found < kGroupRows; ++next, ++found) {
        rows[found] = reinterpret_cast<const uint8_t*>(list.row_data(next));
        factors[found] = factors_of_rows[next];
      }
      return found;
    };
    const auto ahead = [&](int64_t i) {
      return reinterpret_cast<const uint8_t*>(i < after.size() ? after.row_data(i)
                                                               : list.row_data(list.size() - 1));
    };
    AddGroups<Codec>(gather, ahead, list.w.cols, y);
  }
};

// The same from decoded rows, kRows of which this token needs.
template <int kRows>
HWY_NOINLINE void AddDecoded(const float* const* rows, const float* h, int64_t count, float* HWY_RESTRICT y) {
  const float* w[kRows];
  F32 factor[kRows];
  for (int r = 0; r < kRows; ++r) {
    w[r] = rows[r];
    factor[r] = hn::Set(F32Tag(), h[r]);
  }
  int64_t c = 0;
  for (; c + kLanes <= count; c += kLanes) {
    F32 sum = hn::LoadU(F32Tag(), y + c);
    THERMOCLINE_UNROLL(8)
    for (int r = 0; r < kRows; ++r) sum = hn::MulAdd(factor[r], hn::Load(F32Tag(), w[r] + c), sum);
    hn::StoreU(sum, F32Tag(), y + c);
  }
  if (c < count) {
    F32 sum = LoadPartial(y + c, count - c);
    for (int r = 0; r < kRows; ++r) sum = hn::MulAdd(factor[r], hn::Load(F32Tag(), w[r] + c), sum);
    StorePartial(sum, y + c, count - c);
  }
}

void AddDecodedRows(int n_rows, const float* const* rows, const float* h, int64_t count, float* y) {
  using Function = void (*)(const float* const*, const float*, int64_t, float*);
  static constexpr Function kByCount[kBatchRows] = {AddDecoded<1>, AddDecoded<2>, AddDecoded<3>,
                                                    AddDecoded<4>, AddDecoded<5>, AddDecoded<6>,
                                                    AddDecoded<7>, AddDecoded<8>};
  if (n_rows > 0) kByCount[n_rows - 1](rows, h, count, y);
}

bool AnyTokenNeeds(MatrixView<const float> h, int64_t row) {
  for (int64_t t = 0; t < h.rows; ++t)
    if (h.row_data(t)[row] != 0.0f) return true;
  return false;
}

// y(t, c) += h(t, i) * row i for the rows that some token needs, and their number. row_data(i): the row's
// start.
template <class RowData>
int64_t Batch(ElementType type, int64_t n_rows, const RowData& row_data, MatrixView<const float> h,
              int64_t column_begin, int64_t column_end, MatrixView<float> y) {
  alignas(64) float decoded[kBatchRows * kChunkColumns];
  int64_t read = 0;
  for (int64_t row = 0; row < n_rows;) {
    int64_t active[kBatchRows];
    int n_active = 0;
    for (; row < n_rows && n_active < kBatchRows; ++row)
      if (AnyTokenNeeds(h, row)) active[n_active++] = row;
    read += n_active;
    for (int64_t column = column_begin; column < column_end; column += kChunkColumns) {
      const int64_t count = HWY_MIN(kChunkColumns, column_end - column);
      for (int r = 0; r < n_active; ++r)
        DecodeColumns(type, row_data(active[r]), column, count, decoded + r * kChunkColumns);
      for (int64_t t = 0; t < h.rows; ++t) {
        const float* needed[kBatchRows];
        float factors[kBatchRows];
        int n_needed = 0;
        for (int r = 0; r < n_active; ++r) {
          const float factor = h.row_data(t)[active[r]];
          if (factor == 0.0f) continue;
          needed[n_needed] = decoded + r * kChunkColumns;
          factors[n_needed++] = factor;
        }
        AddDecodedRows(n_needed, needed, factors, count, y.row_data(t) + column);
      }
    }
  }
  return read;
}

}  // namespace

void AccumulateRows(const WeightView& w, MatrixView<const float> h, int64_t column_begin, int64_t column_end,
                    ZeroRows zero_rows, MatrixView<float> y) {
  HWY_DASSERT(w.rows == h.cols && w.cols == y.cols && h.rows == y.rows);
  HWY_DASSERT(column_begin % 256 == 0 && (column_end % 256 == 0 || column_end == w.cols));
  if (h.rows == 1) {
    SelectByType<OneToken>(w.type)(w, h.data, column_begin, column_end, zero_rows, y.data);
  } else {
    const auto row_data = [&w](int64_t i) { return w.row_data(i); };
    Batch(w.type, w.rows, row_data, h, column_begin, column_end, y);
  }
}

void AddListed(const RowList& list, const RowList& next, const float* factors, float* y) {
  SelectByType<AddListedRows>(list.w.type)(list, next, factors, y);
}

int64_t AddListedBatch(const RowList& list, MatrixView<const float> h, MatrixView<float> y) {
  const auto row_data = [&list](int64_t i) { return list.row_data(i); };
  return Batch(list.w.type, list.size(), row_data, h, 0, list.w.cols, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
