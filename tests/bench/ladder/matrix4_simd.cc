// Products of 4x4 matrices by vectors, in float and in Q1.14: by lanes, columns interleaved, whole vectors.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ladder/matrix4_simd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "tests/bench/ladder/targets-inl.h"

#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace thermocline::ladder {
namespace HWY_NAMESPACE {
#if THERMOCLINE_LADDER_SIMD
namespace {

// How the columns of a product follow each other.
enum class Order { kOneByOne, kInterleaved };

// D: float vectors of kColumns columns of four lanes.
template <class D>
struct FloatOps {
  using V = hn::Vec<D>;
  using Element = float;
  // A column of a, in every block of four lanes.
  static HWY_INLINE V Column(const float* a) { return hn::LoadDup128(D(), a); }
  static HWY_INLINE V Columns(const float* b) { return hn::LoadU(D(), b); }
  template <int kLane>
  static HWY_INLINE V First(V a, V b) {
    return hn::Mul(a, hn::Broadcast<kLane>(b));
  }
  template <int kLane>
  static HWY_INLINE V Next(V a, V b, V sum) {
    return hn::MulAdd(a, hn::Broadcast<kLane>(b), sum);
  }
  static HWY_INLINE void Put(V sum, float* c) { hn::StoreU(sum, D(), c); }
};

// D: as above; sums are 32 bits wide, elements 16.
template <class D>
struct FixedOps {
  using D32 = hn::Rebind<int32_t, D>;
  using D16 = hn::Rebind<int16_t, D>;
  using V = hn::Vec<D32>;
  using Element = int16_t;
  static HWY_INLINE V Column(const int16_t* a) {
    uint64_t column;
    std::memcpy(&column, a, sizeof column);
    const hn::Repartition<uint64_t, D16> d64;
    return hn::PromoteTo(D32(), hn::BitCast(D16(), hn::Set(d64, column)));
  }
  static HWY_INLINE V Columns(const int16_t* b) { return hn::PromoteTo(D32(), hn::LoadU(D16(), b)); }
  template <int kLane>
  static HWY_INLINE V First(V a, V b) {
    return hn::Mul(a, hn::Broadcast<kLane>(b));
  }
  template <int kLane>
  static HWY_INLINE V Next(V a, V b, V sum) {
    return hn::Add(sum, First<kLane>(a, b));
  }
  // Rounds without the overflow that adding 2^13 could make, then saturates.
  static HWY_INLINE void Put(V sum, int16_t* c) {
    const V half = hn::And(hn::ShiftRight<13>(sum), hn::Set(D32(), 1));
    hn::StoreU(hn::DemoteTo(D16(), hn::Add(hn::ShiftRight<14>(sum), half)), D16(), c);
  }
};

template <class Ops, int kVectors, Order kOrder>
HWY_INLINE void MultiplyOne(const typename Ops::Element* a, const typename Ops::Element* b,
                            typename Ops::Element* c) {
  using V = typename Ops::V;
  constexpr int kStep = 16 / kVectors;
  const V a0 = Ops::Column(a), a1 = Ops::Column(a + 4), a2 = Ops::Column(a + 8), a3 = Ops::Column(a + 12);
  if constexpr (kOrder == Order::kOneByOne) {
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) {
      const V in = Ops::Columns(b + v * kStep);
      V sum = Ops::template First<0>(a0, in);
      sum = Ops::template Next<1>(a1, in, sum);
      sum = Ops::template Next<2>(a2, in, sum);
      sum = Ops::template Next<3>(a3, in, sum);
      Ops::Put(sum, c + v * kStep);
    }
  } else {
    V in[kVectors], sum[kVectors];
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) in[v] = Ops::Columns(b + v * kStep);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[v] = Ops::template First<0>(a0, in[v]);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[v] = Ops::template Next<1>(a1, in[v], sum[v]);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[v] = Ops::template Next<2>(a2, in[v], sum[v]);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) sum[v] = Ops::template Next<3>(a3, in[v], sum[v]);
    HWY_UNROLL(4)
    for (int v = 0; v < kVectors; ++v) Ops::Put(sum[v], c + v * kStep);
  }
}

template <class Ops, int kVectors, Order kOrder>
void Multiply(const typename Ops::Element* a, const typename Ops::Element* b, int64_t count,
              typename Ops::Element* c) {
  for (int64_t i = 0; i < 16 * count; i += 16) MultiplyOne<Ops, kVectors, kOrder>(a + i, b + i, c + i);
}

template <class RungType, template <class> class Ops>
std::vector<RungType> Rungs() {
  using Quad = hn::Full128<float>;
  std::vector<RungType> rungs = {{"SIMD by lanes", Multiply<Ops<Quad>, 4, Order::kOneByOne>},
                                 {"columns interleaved", Multiply<Ops<Quad>, 4, Order::kInterleaved>}};
  if constexpr (kLanes > 4) {
    rungs.push_back({"whole vectors", Multiply<Ops<F32Tag>, 16 / kLanes, Order::kInterleaved>});
  }
  return rungs;
}

}  // namespace

std::vector<Matrix4Rung> Matrix4Rungs() { return Rungs<Matrix4Rung, FloatOps>(); }
std::vector<FixedMatrix4Rung> FixedMatrix4Rungs() { return Rungs<FixedMatrix4Rung, FixedOps>(); }
#endif

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::ladder
HWY_AFTER_NAMESPACE();
