// ReLU and leaky ReLU by vectors: unaligned, aligned, unrolled, past the caches; and the copy they compete
// with.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/ladder/relu_simd.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "hwy/cache_control.h"
#include "tests/bench/ladder/targets-inl.h"

HWY_BEFORE_NAMESPACE();
namespace thermocline::ladder {
namespace HWY_NAMESPACE {
#if THERMOCLINE_LADDER_SIMD
namespace {

struct ReluOf {
  HWY_INLINE F32 operator()(F32 x) const { return hn::IfThenElseZero(hn::Gt(x, hn::Zero(F32Tag())), x); }
  HWY_INLINE float operator()(float x) const { return x > 0.0f ? x : 0.0f; }
};

// Compare, multiply, select.
struct LeakyReluOf {
  float slope;
  HWY_INLINE F32 operator()(F32 x) const {
    return hn::IfThenElse(hn::Gt(x, hn::Zero(F32Tag())), x, hn::Mul(x, hn::Set(F32Tag(), slope)));
  }
  HWY_INLINE float operator()(float x) const { return x > 0.0f ? x : slope * x; }
};

struct Same {
  template <class T>
  HWY_INLINE T operator()(T x) const {
    return x;
  }
};

enum class Stores { kUnaligned, kAligned, kStreamed };

template <Stores kStores, int64_t kUnrolled, class Function>
HWY_INLINE void Map(const float* HWY_RESTRICT x, int64_t count, float* HWY_RESTRICT y, Function function) {
  const F32Tag d;
  int64_t i = 0;
  for (; i + kUnrolled * kLanes <= count; i += kUnrolled * kLanes) {
    F32 v[kUnrolled];
    HWY_UNROLL(8)
    for (int64_t k = 0; k < kUnrolled; ++k)
      v[k] =
          kStores == Stores::kUnaligned ? hn::LoadU(d, x + i + k * kLanes) : hn::Load(d, x + i + k * kLanes);
    HWY_UNROLL(8)
    for (int64_t k = 0; k < kUnrolled; ++k) {
      const F32 result = function(v[k]);
      if constexpr (kStores == Stores::kUnaligned) hn::StoreU(result, d, y + i + k * kLanes);
      if constexpr (kStores == Stores::kAligned) hn::Store(result, d, y + i + k * kLanes);
      if constexpr (kStores == Stores::kStreamed) hn::Stream(result, d, y + i + k * kLanes);
    }
  }
  for (; i < count; ++i) y[i] = function(x[i]);
  if constexpr (kStores == Stores::kStreamed) hwy::FlushStream();
}

template <Stores kStores, int64_t kUnrolled>
void Relu(const float* x, int64_t count, float* y) {
  Map<kStores, kUnrolled>(x, count, y, ReluOf());
}

template <Stores kStores, int64_t kUnrolled>
void LeakyRelu(const float* x, int64_t count, float slope, float* y) {
  Map<kStores, kUnrolled>(x, count, y, LeakyReluOf{slope});
}

template <Stores kStores, int64_t kUnrolled>
ReluRung Rung(std::string_view name) {
  return {name, kStores == Stores::kUnaligned ? 1 : 0, Relu<kStores, kUnrolled>,
          LeakyRelu<kStores, kUnrolled>};
}

}  // namespace

std::vector<ReluRung> ReluRungs() {
  return {Rung<Stores::kUnaligned, 1>("SIMD, unaligned"), Rung<Stores::kAligned, 1>("SIMD, aligned"),
          Rung<Stores::kAligned, 4>("unrolled by four"),
          Rung<Stores::kStreamed, 4>("streamed past the caches")};
}

void StreamCopy(const float* source, int64_t count, float* target) {
  Map<Stores::kStreamed, 4>(source, count, target, Same());
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace thermocline::ladder
HWY_AFTER_NAMESPACE();
