// Vector helpers shared by the kernels of every instruction set: whole-row widths, ragged ends, lane sums.
// SPDX-License-Identifier: Apache-2.0
//
// Included once per target by the kernel sources (Highway's foreach_target), hence the toggled guard.
#include <cstdint>
#include <cstring>

#include "core/half.h"
#include "hwy/highway.h"

#if defined(THERMOCLINE_KERNELS_CPU_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef THERMOCLINE_KERNELS_CPU_VECTORS_INL_H_
#undef THERMOCLINE_KERNELS_CPU_VECTORS_INL_H_
#else
#define THERMOCLINE_KERNELS_CPU_VECTORS_INL_H_
#endif

// Unrolls a loop over the vectors of a step, of which there are few but on the scalar target: there, and
// under sanitizers, it would only cost minutes of compilation.
#undef THERMOCLINE_UNROLL
#if HWY_TARGET == HWY_SCALAR || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define THERMOCLINE_UNROLL(factor)
#else
#define THERMOCLINE_UNROLL(factor) HWY_UNROLL(factor)
#endif

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32Tag = hn::ScalableTag<float>;
using I32Tag = hn::Rebind<int32_t, F32Tag>;
using U32Tag = hn::Rebind<uint32_t, F32Tag>;
using F32 = hn::Vec<F32Tag>;
using I32 = hn::Vec<I32Tag>;
using U32 = hn::Vec<U32Tag>;

constexpr int64_t kLanes = hn::MaxLanes(F32Tag());

// The first `count` (< kLanes) floats, the other lanes zero. Reads nothing past them.
HWY_INLINE F32 LoadPartial(const float* source, int64_t count) {
  HWY_ALIGN float lanes[kLanes] = {};
  std::memcpy(lanes, source, static_cast<size_t>(count) * sizeof(float));
  return hn::Load(F32Tag(), lanes);
}

// The first `count` (1 to kLanes) floats, the other lanes zero.
HWY_INLINE F32 LoadUpTo(const float* source, int64_t count) {
  return count == kLanes ? hn::LoadU(F32Tag(), source) : LoadPartial(source, count);
}

HWY_INLINE void StorePartial(F32 vector, float* target, int64_t count) {
  HWY_ALIGN float lanes[kLanes];
  hn::Store(vector, F32Tag(), lanes);
  std::memcpy(target, lanes, static_cast<size_t>(count) * sizeof(float));
}

// Sums the lanes of four vectors into out[0..3], each by the same tree, so that a sum does not depend on its
// companions.
HWY_INLINE void SumLanes4(F32 a, F32 b, F32 c, F32 d, float* out) {
#if HWY_TARGET == HWY_SCALAR
  out[0] = hn::GetLane(a);
  out[1] = hn::GetLane(b);
  out[2] = hn::GetLane(c);
  out[3] = hn::GetLane(d);
#else
  const hn::Full128<float> quad;
#if HWY_MAX_BYTES >= 64
  const hn::Half<F32Tag> half;
  const auto fold = [half](F32 v) HWY_ATTR {
    const auto folded = hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v));
    return hn::Add(hn::LowerHalf(hn::Full128<float>(), folded), hn::UpperHalf(hn::Full128<float>(), folded));
  };
#elif HWY_MAX_BYTES == 32
  const auto fold = [quad](F32 v)
                        HWY_ATTR { return hn::Add(hn::LowerHalf(quad, v), hn::UpperHalf(quad, v)); };
#else
  const auto fold = [](F32 v) HWY_ATTR { return v; };
#endif
  const auto a4 = fold(a), b4 = fold(b), c4 = fold(c), d4 = fold(d);
  const auto ab = hn::Add(hn::InterleaveLower(quad, a4, b4), hn::InterleaveUpper(quad, a4, b4));
  const auto cd = hn::Add(hn::InterleaveLower(quad, c4, d4), hn::InterleaveUpper(quad, c4, d4));
  hn::StoreU(hn::Add(hn::ConcatLowerLower(quad, cd, ab), hn::ConcatUpperUpper(quad, cd, ab)), quad, out);
#endif
}

// The same tree for one vector.
HWY_INLINE float SumLanes(F32 v) {
  const F32 zero = hn::Zero(F32Tag());
  float sums[4];
  SumLanes4(v, zero, zero, zero, sums);
  return sums[0];
}

HWY_INLINE uint16_t LoadU16(const uint8_t* source) {
  uint16_t value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

HWY_INLINE uint32_t LoadU32(const uint8_t* source) {
  uint32_t value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

// One vector of tag d's elements from bytes at any alignment.
template <class D>
HWY_INLINE hn::Vec<D> LoadElements(D d, const uint8_t* source) {
#if HWY_TARGET == HWY_SCALAR  // LoadU would read through a misaligned pointer
  hn::TFromD<D> element;
  std::memcpy(&element, source, sizeof element);
  return hn::Set(d, element);
#else
  return hn::LoadU(d, reinterpret_cast<const hn::TFromD<D>*>(source));
#endif
}

#undef THERMOCLINE_NATIVE_HALF
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
#define THERMOCLINE_NATIVE_HALF 1
#else
#define THERMOCLINE_NATIVE_HALF 0
#endif

// kLanes consecutive binary16 values, exact, subnormals, infinities and NaN included.
HWY_INLINE F32 LoadHalves(const uint8_t* source) {
  const hn::Rebind<uint16_t, F32Tag> half_bits;
  const auto bits = LoadElements(half_bits, source);
#if THERMOCLINE_NATIVE_HALF
  return hn::PromoteTo(F32Tag(), hn::BitCast(hn::Rebind<hwy::float16_t, F32Tag>(), bits));
#else
  // Shifted into place a half is its value times 2^-112; one exact product repairs all but infinity and NaN.
  const U32Tag u32;
  const U32 wide = hn::PromoteTo(u32, bits);
  const U32 sign = hn::ShiftLeft<16>(hn::And(wide, hn::Set(u32, 0x8000u)));
  const U32 magnitude = hn::ShiftLeft<13>(hn::And(wide, hn::Set(u32, 0x7FFFu)));
  const U32 finite = hn::BitCast(u32, hn::Mul(hn::BitCast(F32Tag(), magnitude), hn::Set(F32Tag(), 0x1p112f)));
  const I32Tag i32;
  const auto special = hn::MaskFromVec(
      hn::BitCast(u32, hn::VecFromMask(i32, hn::Gt(hn::BitCast(i32, magnitude), hn::Set(i32, 0x0F7FFFFF)))));
  const U32 value = hn::IfThenElse(special, hn::Or(finite, hn::Set(u32, 0x7F800000u)), finite);
  return hn::BitCast(F32Tag(), hn::Or(value, sign));
#endif
}

// One binary16 value (a block's scale) in every lane.
HWY_INLINE F32 BroadcastHalf(const uint8_t* source) {
#if THERMOCLINE_NATIVE_HALF
  const hn::Rebind<uint16_t, F32Tag> half_bits;
  return hn::PromoteTo(
      F32Tag(), hn::BitCast(hn::Rebind<hwy::float16_t, F32Tag>(), hn::Set(half_bits, LoadU16(source))));
#else
  return hn::Set(F32Tag(), HalfToFloat(LoadU16(source)));
#endif
}

// kLanes bytes, widened.
HWY_INLINE I32 LoadBytes(const uint8_t* source) {
  return hn::PromoteTo(I32Tag(), LoadElements(hn::Rebind<uint8_t, F32Tag>(), source));
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
