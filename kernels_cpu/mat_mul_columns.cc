// Products over columns of plain floats: every listed column times its activation, added in ascending order.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/mat_mul_columns.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/cache_control.h"
#include "kernels_cpu/codecs-inl.h"
#include "kernels_cpu/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kStepRows = 32;  // of one step of a codec
// Steps beside each other, whose sums stay in registers.
#if HWY_TARGET == HWY_AVX3
constexpr int kSteps = 4;
#elif HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_NEON
constexpr int kSteps = 2;
#else
constexpr int kSteps = 1;
#endif

// The columns of one block of one token that are not zero.
struct Listed {
  const float* values;
  const uint8_t* places;
  int64_t count;
};

// sums[r] += the block's part for a chunk's rows r. The codes of `ahead` are prefetched.
template <class Codec>
HWY_NOINLINE void AddBlock(const uint8_t* codes, int64_t column_bytes, const Listed& x,
                           const uint8_t* codes_ahead, const Listed& ahead, float* HWY_RESTRICT sums) {
  constexpr int kVectors = Codec::kVectors;
  constexpr int64_t kChunkBytes = kChunkRows * Codec::kElementBytes;
  for (int64_t i = 0; i < ahead.count; ++i) {
    for (int64_t byte = 0; byte < kChunkBytes; byte += 64)
      hwy::Prefetch(codes_ahead + ahead.places[i] * column_bytes + byte);
  }
  for (int64_t row = 0; row < kChunkRows; row += kSteps * kStepRows) {
    F32 sum[kSteps * kVectors];
    THERMOCLINE_UNROLL(16)
    for (int k = 0; k < kSteps * kVectors; ++k) sum[k] = hn::LoadU(F32Tag(), sums + row + k * kLanes);
    for (int64_t i = 0; i < x.count; ++i) {
      const uint8_t* column = codes + x.places[i] * column_bytes + row * Codec::kElementBytes;
      const F32 value = hn::Set(F32Tag(), x.values[i]);
      THERMOCLINE_UNROLL(4)
      for (int step = 0; step < kSteps; ++step) {
        F32 w[kVectors];
        Codec::Step(Codec::Open(column + step * Codec::kBlockBytes), 0, w);
        THERMOCLINE_UNROLL(8)
        for (int k = 0; k < kVectors; ++k)
          sum[step * kVectors + k] = hn::MulAdd(w[k], value, sum[step * kVectors + k]);
      }
    }
    THERMOCLINE_UNROLL(16)
    for (int k = 0; k < kSteps * kVectors; ++k) hn::StoreU(sum[k], F32Tag(), sums + row + k * kLanes);
  }
}

template <class Codec>
struct AddBlocks {
  // One token's sums of blocks [begin, end).
  static void Run(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x, int64_t token,
                  float* HWY_RESTRICT sums) {
    constexpr int64_t kChunkBytes = kChunkRows * Codec::kElementBytes;
    const int64_t column_bytes = w.layout.stride_rows * Codec::kElementBytes;
    std::memset(sums, 0, static_cast<size_t>(w.chunks() * kChunkRows) * sizeof(float));
    const auto listed = [&](int64_t g) {
      return Listed{x.exact.row_data(token) + g * kColumnBlock, x.places.row_data(token) + g * kColumnBlock,
                    x.groups.row_data(token)[g].listed};
    };
    for (int64_t g = begin; g < end; ++g) {
      const Listed here = listed(g);
      if (here.count == 0) continue;
      const uint8_t* codes = reinterpret_cast<const uint8_t*>(w.data) + g * kColumnBlock * column_bytes;
      for (int64_t chunk = 0; chunk < w.chunks(); ++chunk) {
        // The chunk that is multiplied next, of this block or of the one behind it.
        const bool last = chunk + 1 == w.chunks();
        const uint8_t* ahead = last ? codes + kColumnBlock * column_bytes : codes + (chunk + 1) * kChunkBytes;
        const Listed listed_ahead = !last ? here : g + 1 < x.groups.cols ? listed(g + 1) : Listed{};
        AddBlock<Codec>(codes + chunk * kChunkBytes, column_bytes, here, ahead, listed_ahead,
                        sums + chunk * kChunkRows);
      }
    }
  }
};

}  // namespace

void MatMulFloatColumns(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                        MatrixView<float> sums) {
  HWY_DASSERT(x.exact.rows == sums.rows && end <= w.groups());
  const auto add = w.type == ElementType::kF32   ? AddBlocks<F32Codec>::Run
                   : w.type == ElementType::kF16 ? AddBlocks<F16Codec>::Run
                                                 : AddBlocks<BF16Codec>::Run;
  for (int64_t t = 0; t < sums.rows; ++t) add(w, begin, end, x, t, sums.row_data(t));
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
