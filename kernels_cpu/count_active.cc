// Counts of active neurons and sums of their magnitudes.
// SPDX-License-Identifier: Apache-2.0
//
// A strip of neurons stays in registers while the tokens pass. Magnitudes are added in double, one token
// after the other, so that the sums do not depend on how tokens are cut into calls.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/count_active.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/activations-inl.h"
#include "kernels_cpu/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

constexpr int kStripVectors = 2;  // counts and sums of more would not fit the registers of AVX2
constexpr int64_t kMostRows = int64_t{1} << 30;  // tokens that 32-bit counts of a strip can take

// The magnitudes of kLanes neurons, summed in double.
struct MagnitudeSums {
#if HWY_TARGET == HWY_SCALAR
  double sum;

  static HWY_INLINE MagnitudeSums Load(const double* source) { return {*source}; }
  HWY_INLINE void Add(F32 magnitude) { sum += static_cast<double>(hn::GetLane(magnitude)); }
  HWY_INLINE void Store(double* target) const { *target = sum; }
#else
  using HalfTag = hn::Half<F32Tag>;
  using F64Tag = hn::Rebind<double, HalfTag>;
  hn::Vec<F64Tag> low, high;

  static HWY_INLINE MagnitudeSums Load(const double* source) {
    return {hn::LoadU(F64Tag(), source), hn::LoadU(F64Tag(), source + kLanes / 2)};
  }
  HWY_INLINE void Add(F32 magnitude) {
    low = hn::Add(low, hn::PromoteTo(F64Tag(), hn::LowerHalf(HalfTag(), magnitude)));
    high = hn::Add(high, hn::PromoteTo(F64Tag(), hn::UpperHalf(HalfTag(), magnitude)));
  }
  HWY_INLINE void Store(double* target) const {
    hn::StoreU(low, F64Tag(), target);
    hn::StoreU(high, F64Tag(), target + kLanes / 2);
  }
#endif
};

// kVectors vectors of neurons, the first at column `column`; `count` of the last vector's lanes are there.
template <class Activate, int kVectors>
HWY_INLINE void CountStrip(const Activate& activate, F32 threshold, MatrixView<const float> gate,
                           int64_t column, int64_t count, uint64_t* active, double* magnitude) {
  HWY_ALIGN double sums_in[kVectors * kLanes] = {};
  HWY_ALIGN int32_t counts_out[kVectors * kLanes];
  const int64_t width = (kVectors - 1) * kLanes + count;
  std::memcpy(sums_in, magnitude + column, static_cast<size_t>(width) * sizeof(double));
  MagnitudeSums sums[kVectors];
  I32 counts[kVectors];
  for (int k = 0; k < kVectors; ++k) {
    sums[k] = MagnitudeSums::Load(sums_in + k * kLanes);
    counts[k] = hn::Zero(I32Tag());
  }
  for (int64_t t = 0; t < gate.rows; ++t) {
    const float* row = gate.row_data(t) + column;
    HWY_UNROLL(2)
    for (int k = 0; k < kVectors; ++k) {
      // Lanes that are not there are zero, which no activation here makes active.
      const F32 x = k + 1 < kVectors || count == kLanes ? hn::LoadU(F32Tag(), row + k * kLanes)
                                                        : LoadPartial(row + k * kLanes, count);
      const F32 value = hn::Abs(activate(x));
      const auto is_active = hn::Gt(value, threshold);
      // A mask's vector is -1 where it is set.
      counts[k] = hn::Sub(counts[k], hn::BitCast(I32Tag(), hn::VecFromMask(F32Tag(), is_active)));
      sums[k].Add(hn::IfThenElseZero(is_active, value));
    }
  }
  for (int k = 0; k < kVectors; ++k) {
    sums[k].Store(sums_in + k * kLanes);
    hn::Store(counts[k], I32Tag(), counts_out + k * kLanes);
  }
  std::memcpy(magnitude + column, sums_in, static_cast<size_t>(width) * sizeof(double));
  for (int64_t i = 0; i < width; ++i) active[column + i] += static_cast<uint64_t>(counts_out[i]);
}

template <class Activate>
void CountColumns(const Activate& activate, float threshold, MatrixView<const float> gate, uint64_t* active,
                  double* magnitude) {
  const F32 limit = hn::Set(F32Tag(), threshold);
  constexpr int64_t kStrip = kStripVectors * kLanes;
  int64_t column = 0;
  for (; column + kStrip <= gate.cols; column += kStrip)
    CountStrip<Activate, kStripVectors>(activate, limit, gate, column, kLanes, active, magnitude);
  for (; column < gate.cols; column += kLanes)
    CountStrip<Activate, 1>(activate, limit, gate, column, HWY_MIN(kLanes, gate.cols - column), active,
                            magnitude);
}

}  // namespace

void CountActive(ActivationFunction activation, float threshold, MatrixView<const float> gate,
                 std::span<uint64_t> active, std::span<double> magnitude) {
  TC_CHECK(gate.rows <= kMostRows);
  WithActivation(activation, [&](const auto& activate) HWY_ATTR {
    CountColumns(activate, threshold, gate, active.data(), magnitude.data());
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
