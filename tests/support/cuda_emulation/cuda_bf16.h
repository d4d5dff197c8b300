// bfloat16 as the CUDA Toolkit's header of this name offers it, emulated.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/half.h"
#include "tests/support/cuda_emulation.h"

namespace thermocline::cuda_emulation {

struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 value) { return BFloat16ToFloat(value.bits); }
inline __nv_bfloat16 __float2bfloat16(float value) { return {FloatToBFloat16(value)}; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {FloatToBFloat16(value)}; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline float __low2float(__nv_bfloat162 pair) { return __bfloat162float(pair.x); }
inline float __high2float(__nv_bfloat162 pair) { return __bfloat162float(pair.y); }
inline float2 __bfloat1622float2(__nv_bfloat162 pair) {
  return {__bfloat162float(pair.x), __bfloat162float(pair.y)};
}

}  // namespace thermocline::cuda_emulation
