// IEEE half precision as the CUDA Toolkit's header of this name offers it, emulated.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/half.h"
#include "tests/support/cuda_emulation.h"

namespace thermocline::cuda_emulation {

struct __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

inline float __half2float(__half value) { return HalfToFloat(value.bits); }
inline __half __float2half(float value) { return {FloatToHalf(value)}; }
inline __half __float2half_rn(float value) { return {FloatToHalf(value)}; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half __low2half(__half2 pair) { return pair.x; }
inline __half __high2half(__half2 pair) { return pair.y; }
inline float __low2float(__half2 pair) { return __half2float(pair.x); }
inline float __high2float(__half2 pair) { return __half2float(pair.y); }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }

}  // namespace thermocline::cuda_emulation
