// Products of panels with rounded activations, and of columns, on Highway's targets.
// SPDX-License-Identifier: Apache-2.0
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels_cpu/mat_mul_packed.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
// Per-target headers follow it.
#include "kernels_cpu/targets-inl.h"
#include "kernels_cpu/vectors-inl.h"

HWY_BEFORE_NAMESPACE();
#undef THERMOCLINE_TILES
#define THERMOCLINE_TILES HWY_NAMESPACE
#include "kernels_cpu/column_tiles-inl.h"
#include "kernels_cpu/packed_tiles-inl.h"

namespace thermocline {
namespace HWY_NAMESPACE {
namespace {

#if HWY_TARGET == HWY_SCALAR

// One row at a time: four bytes are one word.
struct ScalarBytes {
  int8_t byte[4];
};
struct IntegerOps {
  static constexpr int kByteOffset = 0;
  using Bytes = ScalarBytes;
  using Quad = ScalarBytes;
  struct Sum {
    int32_t sum;
    static HWY_INLINE Sum Start(int32_t init) { return {init}; }
    HWY_INLINE void Add(Bytes words, Quad quad) {
      for (int j = 0; j < 4; ++j) sum += words.byte[j] * quad.byte[j];
    }
    HWY_INLINE F32 Total(int32_t) const { return hn::Set(F32Tag(), static_cast<float>(sum)); }
  };
  template <bool>
  using SumOf = Sum;

  struct Pairs {
    int16_t value[2];
  };
  struct PairSum {
    int32_t sum;
    static HWY_INLINE PairSum Start() { return {0}; }
    HWY_INLINE void Add(Pairs weights, Pairs pair) {
      for (int j = 0; j < 2; ++j) sum += weights.value[j] * pair.value[j];
    }
    HWY_INLINE F32 Total() const { return hn::Set(F32Tag(), static_cast<float>(sum)); }
  };
  static HWY_INLINE Pairs LoadPairs(const void* at) {
    Pairs pairs;
    std::memcpy(pairs.value, at, sizeof pairs.value);
    return pairs;
  }
  static HWY_INLINE Pairs BroadcastPair(const int16_t* at) { return LoadPairs(at); }

  static HWY_INLINE Bytes LoadWords(const uint8_t* at) {
    Bytes bytes;
    std::memcpy(bytes.byte, at, 4);
    return bytes;
  }
  static HWY_INLINE Bytes LowNibbles(Bytes bytes) {
    for (int8_t& byte : bytes.byte) byte = static_cast<int8_t>(byte & 15);
    return bytes;
  }
  static HWY_INLINE Bytes HighNibbles(Bytes bytes) {
    for (int8_t& byte : bytes.byte) byte = static_cast<int8_t>((byte >> 4) & 15);
    return bytes;
  }
  static HWY_INLINE Bytes PrepareBytes(Bytes bytes) { return bytes; }
  static HWY_INLINE void Transpose(const Bytes (&columns)[4], Bytes (&words)[4]) {
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) words[i].byte[j] = columns[j].byte[i];
  }
  static HWY_INLINE Quad LoadQuad(const int8_t* at) {
    return LoadWords(reinterpret_cast<const uint8_t*>(at));
  }
};

#else

using I16Tag = hn::Repartition<int16_t, F32Tag>;
using U8Tag = hn::Repartition<uint8_t, F32Tag>;
using I16 = hn::Vec<I16Tag>;

struct ByteVectors {
  using Bytes = hn::Vec<U8Tag>;
  using Pairs = I16;
  static HWY_INLINE Pairs LoadPairs(const uint8_t* at) {
    return hn::BitCast(I16Tag(), hn::LoadU(U8Tag(), at));
  }
  static HWY_INLINE Pairs BroadcastPair(const int16_t* at) {
    int32_t two;
    std::memcpy(&two, at, sizeof two);
    return hn::BitCast(I16Tag(), hn::Set(I32Tag(), two));
  }
  static HWY_INLINE Bytes LoadWords(const uint8_t* at) { return hn::LoadU(U8Tag(), at); }
  static HWY_INLINE Bytes LowNibbles(Bytes words) { return hn::And(words, hn::Set(U8Tag(), 15)); }
  static HWY_INLINE Bytes HighNibbles(Bytes words) {
    const hn::Repartition<uint16_t, F32Tag> u16;
    return hn::And(hn::BitCast(U8Tag(), hn::ShiftRight<4>(hn::BitCast(u16, words))), hn::Set(U8Tag(), 15));
  }
  static HWY_INLINE Bytes PrepareBytes(Bytes words) { return words; }
  static HWY_INLINE void Transpose(const Bytes (&columns)[4], Bytes (&words)[4]) {
    const U8Tag u8;
    const hn::Repartition<uint16_t, F32Tag> u16;
    const auto lower01 = hn::BitCast(u16, hn::InterleaveLower(u8, columns[0], columns[1]));
    const auto upper01 = hn::BitCast(u16, hn::InterleaveUpper(u8, columns[0], columns[1]));
    const auto lower23 = hn::BitCast(u16, hn::InterleaveLower(u8, columns[2], columns[3]));
    const auto upper23 = hn::BitCast(u16, hn::InterleaveUpper(u8, columns[2], columns[3]));
    words[0] = hn::BitCast(u8, hn::InterleaveLower(u16, lower01, lower23));
    words[1] = hn::BitCast(u8, hn::InterleaveUpper(u16, lower01, lower23));
    words[2] = hn::BitCast(u8, hn::InterleaveLower(u16, upper01, upper23));
    words[3] = hn::BitCast(u8, hn::InterleaveUpper(u16, upper01, upper23));
  }
  static HWY_INLINE Bytes LoadQuad(const int8_t* at) {
    int32_t four;
    std::memcpy(&four, at, sizeof four);
    return hn::BitCast(U8Tag(), hn::Set(I32Tag(), four));
  }
};

#if HWY_ARCH_X86

// Sums of neighbouring products: u8 by s8 to 16 bits, 16 by 16 to 32 bits.
#if HWY_TARGET == HWY_SSE4
HWY_INLINE I16 PairsOfBytes(hn::Vec<U8Tag> a, hn::Vec<U8Tag> b) {
  return I16{_mm_maddubs_epi16(a.raw, b.raw)};
}
HWY_INLINE I32 PairsOfShorts(I16 a, I16 b) { return I32{_mm_madd_epi16(a.raw, b.raw)}; }
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE I16 PairsOfBytes(hn::Vec<U8Tag> a, hn::Vec<U8Tag> b) {
  return I16{_mm256_maddubs_epi16(a.raw, b.raw)};
}
HWY_INLINE I32 PairsOfShorts(I16 a, I16 b) { return I32{_mm256_madd_epi16(a.raw, b.raw)}; }
#else
HWY_INLINE I16 PairsOfBytes(hn::Vec<U8Tag> a, hn::Vec<U8Tag> b) {
  return I16{_mm512_maddubs_epi16(a.raw, b.raw)};
}
HWY_INLINE I32 PairsOfShorts(I16 a, I16 b) { return I32{_mm512_madd_epi16(a.raw, b.raw)}; }
#endif

struct IntegerOps : ByteVectors {
  static constexpr int kByteOffset = 0;
  using Quad = Bytes;

  struct PairSum {
    I32 sum;
    static HWY_INLINE PairSum Start() { return {hn::Zero(I32Tag())}; }
    HWY_INLINE void Add(Pairs weights, Pairs pair) { sum = hn::Add(sum, PairsOfShorts(weights, pair)); }
    HWY_INLINE F32 Total() const { return hn::ConvertTo(F32Tag(), sum); }
  };

  // Of 4-bit weights: 8 sums of two products of at most 15 * 127 fit in 16 bits.
  struct NibbleSum {
    I16 sum;
    static HWY_INLINE NibbleSum Start(int32_t) { return {hn::Zero(I16Tag())}; }
    HWY_INLINE void Add(Bytes words, Quad quad) { sum = hn::Add(sum, PairsOfBytes(words, quad)); }
    HWY_INLINE F32 Total(int32_t init) const {
      const I32 total = hn::Add(PairsOfShorts(sum, hn::Set(I16Tag(), 1)), hn::Set(I32Tag(), init));
      return hn::ConvertTo(F32Tag(), total);
    }
  };
  // Of signed bytes: even and odd ones widened, since sums of two products may not fit in 16 bits.
  struct ByteSum {
    I32 sum;
    static HWY_INLINE ByteSum Start(int32_t init) { return {hn::Set(I32Tag(), init)}; }
    HWY_INLINE void Add(Bytes words, Quad quad) {
      sum =
          hn::Add(sum, hn::Add(PairsOfShorts(Even(words), Even(quad)), PairsOfShorts(Odd(words), Odd(quad))));
    }
    HWY_INLINE F32 Total(int32_t) const { return hn::ConvertTo(F32Tag(), sum); }
    static HWY_INLINE I16 Even(Bytes bytes) {
      return hn::ShiftRight<8>(hn::ShiftLeft<8>(hn::BitCast(I16Tag(), bytes)));
    }
    static HWY_INLINE I16 Odd(Bytes bytes) { return hn::ShiftRight<8>(hn::BitCast(I16Tag(), bytes)); }
  };
  template <bool kNibbles>
  using SumOf = std::conditional_t<kNibbles, NibbleSum, ByteSum>;
};

#else  // Arm

struct IntegerOps : ByteVectors {
  static constexpr int kByteOffset = 0;
  using Quad = Bytes;

  // Halves of the vector apart, joined in pairs at the end.
  struct PairSum {
    int32x4_t lower, upper;
    static HWY_INLINE PairSum Start() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    HWY_INLINE void Add(Pairs weights, Pairs pair) {
      lower = vmlal_s16(lower, vget_low_s16(weights.raw), vget_low_s16(pair.raw));
      upper = vmlal_high_s16(upper, weights.raw, pair.raw);
    }
    HWY_INLINE F32 Total() const { return hn::ConvertTo(F32Tag(), I32(vpaddq_s32(lower, upper))); }
  };

  // Halves of the vector apart: four sums of neighbours each, joined in pairs at the end.
  struct Sum {
    int32x4_t lower, upper;
    static HWY_INLINE Sum Start(int32_t) { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
    HWY_INLINE void Add(Bytes words, Quad quad) {
      const int8x16_t w = vreinterpretq_s8_u8(words.raw), x = vreinterpretq_s8_u8(quad.raw);
      lower = vpadalq_s16(lower, vmull_s8(vget_low_s8(w), vget_low_s8(x)));
      upper = vpadalq_s16(upper, vmull_high_s8(w, x));
    }
    HWY_INLINE F32 Total(int32_t init) const {
      return hn::ConvertTo(F32Tag(), hn::Add(I32(vpaddq_s32(lower, upper)), hn::Set(I32Tag(), init)));
    }
  };
  template <bool>
  using SumOf = Sum;
};

#endif
#endif

struct Ops : IntegerOps {
  static constexpr int kLanes = static_cast<int>(HWY_NAMESPACE::kLanes);
#if HWY_TARGET == HWY_AVX3
  static constexpr int kTilePanels = 2, kTileTokens = 4;
#elif HWY_TARGET == HWY_NEON
  static constexpr int kTilePanels = 1, kTileTokens = 4;
#else
  static constexpr int kTilePanels = 1, kTileTokens = 2;
#endif
  using Floats = F32;
  static HWY_INLINE F32 ZeroFloats() { return hn::Zero(F32Tag()); }
  static HWY_INLINE F32 Broadcast(float value) { return hn::Set(F32Tag(), value); }
  static HWY_INLINE F32 Mul(F32 a, F32 b) { return hn::Mul(a, b); }
  static HWY_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return hn::MulAdd(a, b, c); }
  static HWY_INLINE F32 Negative(F32 a) { return hn::Neg(a); }
  static HWY_INLINE F32 LoadHalves(const uint8_t* at) { return HWY_NAMESPACE::LoadHalves(at); }
  static HWY_INLINE F32 LoadBFloats(const uint8_t* at) {
    const U32Tag u32;
    const U32 bits = hn::PromoteTo(u32, LoadElements(hn::Rebind<uint16_t, F32Tag>(), at));
    return hn::BitCast(F32Tag(), hn::ShiftLeft<16>(bits));
  }
  static HWY_INLINE F32 LoadBytes(const uint8_t* at) {
    return hn::ConvertTo(F32Tag(), HWY_NAMESPACE::LoadBytes(at));
  }
  static HWY_INLINE F32 Load(const float* at) { return hn::LoadU(F32Tag(), at); }
  static HWY_INLINE void Store(F32 a, float* at) { hn::StoreU(a, F32Tag(), at); }
};

}  // namespace

void MatMulPacked(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y) {
  HWY_DASSERT(w.cols == x.values.cols && w.rows == y.cols && x.values.rows == y.rows);
  MatMulPanels<Ops>(w, x, y);
}

void MatMulPackedInt16(const PackedView& w, const Int16Activations& x, MatrixView<float> y) {
  HWY_DASSERT(w.cols == x.values.cols && w.rows == y.cols && x.values.rows == y.rows);
  MatMulInt16Panels<Ops>(w, x, y);
}

void MatMulColumns(const ColumnView& w, int64_t begin, int64_t end, const ListedActivations& x,
                   MatrixView<float> sums) {
  HWY_DASSERT(x.values.rows == sums.rows && end <= w.groups());
  MatMulListed<Ops>(w, begin, end, x, sums);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();
