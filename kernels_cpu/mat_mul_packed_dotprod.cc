// Products of panels and columns with Arm's integer dot products (DotProd, optional from Armv8.2 on).
// SPDX-License-Identifier: Apache-2.0
//
// Highway's NEON asks for no more than Armv8.0, so the file names its instructions itself. Nothing here runs
// before HasDotProd has said that they exist.
#include "kernels_cpu/extended_targets.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstring>

#include "core/element_type.h"
#include "kernels_cpu/packed_matrix.h"
#include "kernels_cpu/quantized_activations.h"

// With what the room is compiled for, so that its inline functions are inlined here.
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+crypto+dotprod")
#define THERMOCLINE_TILES dotprod_tiles
#include "kernels_cpu/column_tiles-inl.h"
#include "kernels_cpu/packed_tiles-inl.h"

namespace thermocline {
namespace dotprod_tiles {

struct Ops {
  static constexpr int kLanes = 4;
  static constexpr int kTilePanels = 1, kTileTokens = 4;  // 16 sums and 8 vectors of weights of 32 registers
  static constexpr int kByteOffset = 0;
  using Floats = float32x4_t;
  using Bytes = int8x16_t;
  using Quad = int8x16_t;

  struct Sum {
    int32x4_t sum;
    static inline Sum Start(int32_t init) { return {vdupq_n_s32(init)}; }
    inline void Add(Bytes words, Quad quad) { sum = vdotq_s32(sum, words, quad); }
    inline Floats Total(int32_t) const { return vcvtq_f32_s32(sum); }
  };
  template <bool>
  using SumOf = Sum;

  static inline Bytes LoadWords(const uint8_t* at) { return vreinterpretq_s8_u8(vld1q_u8(at)); }
  static inline Bytes LowNibbles(Bytes words) { return vandq_s8(words, vdupq_n_s8(15)); }
  static inline Bytes HighNibbles(Bytes words) {
    return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(words), 4));
  }
  static inline Bytes PrepareBytes(Bytes words) { return words; }
  static inline void Transpose(const Bytes (&columns)[4], Bytes (&words)[4]) {
    const int16x8_t lower01 = vreinterpretq_s16_s8(vzip1q_s8(columns[0], columns[1]));
    const int16x8_t upper01 = vreinterpretq_s16_s8(vzip2q_s8(columns[0], columns[1]));
    const int16x8_t lower23 = vreinterpretq_s16_s8(vzip1q_s8(columns[2], columns[3]));
    const int16x8_t upper23 = vreinterpretq_s16_s8(vzip2q_s8(columns[2], columns[3]));
    words[0] = vreinterpretq_s8_s16(vzip1q_s16(lower01, lower23));
    words[1] = vreinterpretq_s8_s16(vzip2q_s16(lower01, lower23));
    words[2] = vreinterpretq_s8_s16(vzip1q_s16(upper01, upper23));
    words[3] = vreinterpretq_s8_s16(vzip2q_s16(upper01, upper23));
  }
  static inline Quad LoadQuad(const int8_t* at) {
    int32_t four;
    std::memcpy(&four, at, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static inline Floats ZeroFloats() { return vdupq_n_f32(0.0f); }
  static inline Floats Broadcast(float value) { return vdupq_n_f32(value); }
  static inline Floats Mul(Floats a, Floats b) { return vmulq_f32(a, b); }
  static inline Floats MulAdd(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }
  static inline Floats Negative(Floats a) { return vnegq_f32(a); }
  static inline Floats LoadHalves(const uint8_t* at) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(at)));
  }
  static inline Floats LoadBytes(const uint8_t* at) {
    uint32_t four;
    std::memcpy(&four, at, sizeof four);
    const uint16x8_t wide = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four)));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
  }
  static inline Floats Load(const float* at) { return vld1q_f32(at); }
  static inline void Store(Floats a, float* at) { vst1q_f32(at, a); }
};

}  // namespace dotprod_tiles

void MatMulPackedDotProd(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y) {
  dotprod_tiles::MatMulPanels<dotprod_tiles::Ops>(w, x, y);
}

void MatMulColumnsDotProd(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                          MatrixView<float> sums) {
  dotprod_tiles::MatMulListed<dotprod_tiles::Ops>(w, begin, end, x, sums);
}

}  // namespace thermocline
#pragma GCC pop_options
#endif
