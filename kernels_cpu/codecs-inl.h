// Codecs: how the blocks of each element type expand to vectors of floats.
// SPDX-License-Identifier: Apache-2.0
//
// A codec sees a row as blocks of kSteps steps; a step is kVectors vectors of consecutive elements. Open()
// reads what the steps of one block share (scales), Step() expands one of them. Every value is rounded at
// most once, the way the format defines it (scale products are exact in binary32), so all targets agree bit
// for bit. Plain floats take "blocks" of 32 elements; a shorter end of a row goes through DecodeTail.
#include <cstdint>
#include <cstring>

#include "core/element_type.h"
#include "kernels_cpu/vectors-inl.h"

#if defined(THERMOCLINE_KERNELS_CPU_CODECS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef THERMOCLINE_KERNELS_CPU_CODECS_INL_H_
#undef THERMOCLINE_KERNELS_CPU_CODECS_INL_H_
#else
#define THERMOCLINE_KERNELS_CPU_CODECS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace thermocline {
namespace HWY_NAMESPACE {

template <int64_t kElements>
constexpr int kVectorsOf = static_cast<int>(kElements / kLanes);

// ---- Plain floats

template <int64_t kBytes>
struct FloatCodec {
  static constexpr int64_t kElementBytes = kBytes;
  static constexpr int64_t kBlockElements = 32;
  static constexpr int64_t kBlockBytes = 32 * kBytes;
  static constexpr int kSteps = 1;
  static constexpr int kVectors = kVectorsOf<32>;
  using Block = const uint8_t*;
  static HWY_INLINE Block Open(const uint8_t* block) { return block; }
};

struct F32Codec : FloatCodec<4> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    THERMOCLINE_UNROLL(8)
    for (int k = 0; k < kVectors; ++k) w[k] = LoadElements(F32Tag(), block + 4 * k * kLanes);
  }
};

struct F16Codec : FloatCodec<2> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    THERMOCLINE_UNROLL(8)
    for (int k = 0; k < kVectors; ++k) w[k] = LoadHalves(block + 2 * k * kLanes);
  }
};

struct BF16Codec : FloatCodec<2> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    const hn::Rebind<uint16_t, F32Tag> half_bits;
    THERMOCLINE_UNROLL(8)
    for (int k = 0; k < kVectors; ++k) {
      const auto bits = LoadElements(half_bits, block + 2 * k * kLanes);
      w[k] = hn::BitCast(F32Tag(), hn::ShiftLeft<16>(hn::PromoteTo(U32Tag(), bits)));
    }
  }
};

// ---- Blocks of 32: an F16 scale, perhaps an F16 minimum, perhaps 4 bytes of fifth bits, then the quants.
// Nibble layout: byte j holds element j (low) and element j + 16 (high).

template <int64_t kBytes>
struct Block32Codec {
  static constexpr int64_t kElementBytes = 0;
  static constexpr int64_t kBlockElements = 32;
  static constexpr int64_t kBlockBytes = kBytes;
  static constexpr int kSteps = 1;
  static constexpr int kVectors = kVectorsOf<32>;
  using Block = const uint8_t*;
  static HWY_INLINE Block Open(const uint8_t* block) { return block; }
};

HWY_INLINE F32 LowNibbles(I32 bytes) {
  return hn::ConvertTo(F32Tag(), hn::And(bytes, hn::Set(I32Tag(), 15)));
}
HWY_INLINE F32 HighNibbles(I32 bytes) { return hn::ConvertTo(F32Tag(), hn::ShiftRight<4>(bytes)); }

struct Q8_0Codec : Block32Codec<34> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    const F32 scale = BroadcastHalf(block);
    const hn::Rebind<int8_t, F32Tag> i8;
    THERMOCLINE_UNROLL(8)
    for (int k = 0; k < kVectors; ++k) {
      const auto quants = LoadElements(i8, block + 2 + k * kLanes);
      w[k] = hn::Mul(scale, hn::ConvertTo(F32Tag(), hn::PromoteTo(I32Tag(), quants)));
    }
  }
};

// scale * nibble + offset for the 32 elements of 16 bytes.
template <int kVectors>
HWY_INLINE void ExpandNibbles(const uint8_t* quants, F32 scale, F32 offset, F32* HWY_RESTRICT w) {
  THERMOCLINE_UNROLL(8)
  for (int k = 0; k < kVectors / 2; ++k) {
    const I32 bytes = LoadBytes(quants + k * kLanes);
    w[k] = hn::MulAdd(scale, LowNibbles(bytes), offset);
    w[k + kVectors / 2] = hn::MulAdd(scale, HighNibbles(bytes), offset);
  }
}

struct Q4_0Codec : Block32Codec<18> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    const F32 scale = BroadcastHalf(block);
    ExpandNibbles<kVectors>(block + 2, scale, hn::Mul(scale, hn::Set(F32Tag(), -8.0f)), w);
  }
};

struct Q4_1Codec : Block32Codec<20> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    ExpandNibbles<kVectors>(block + 4, BroadcastHalf(block), BroadcastHalf(block + 2), w);
  }
};

// Bit i of lane i's word selects the fifth bit of element i.
HWY_ALIGN constexpr int32_t kBitOfElement[32] = {
    1 << 0,  1 << 1,  1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,  1 << 8,  1 << 9,   1 << 10,
    1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20,  1 << 21,
    1 << 22, 1 << 23, 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, INT32_MIN};

// nibble + 16 where the element's bit is set.
HWY_INLINE F32 WithFifthBit(I32 nibble, I32 high_bits, int64_t first_element) {
  const I32Tag i32;
  const auto set = hn::TestBit(high_bits, hn::Load(i32, kBitOfElement + first_element));
  return hn::ConvertTo(F32Tag(), hn::Or(nibble, hn::IfThenElseZero(set, hn::Set(i32, 16))));
}

template <int kVectors>
HWY_INLINE void ExpandFiveBits(const uint8_t* high_bits, const uint8_t* quants, F32 scale, F32 offset,
                               F32* HWY_RESTRICT w) {
  const I32 high = hn::Set(I32Tag(), static_cast<int32_t>(LoadU32(high_bits)));
  THERMOCLINE_UNROLL(8)
  for (int k = 0; k < kVectors / 2; ++k) {
    const I32 bytes = LoadBytes(quants + k * kLanes);
    const I32 low = hn::And(bytes, hn::Set(I32Tag(), 15));
    w[k] = hn::MulAdd(scale, WithFifthBit(low, high, k * kLanes), offset);
    w[k + kVectors / 2] =
        hn::MulAdd(scale, WithFifthBit(hn::ShiftRight<4>(bytes), high, 16 + k * kLanes), offset);
  }
}

struct Q5_0Codec : Block32Codec<22> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    const F32 scale = BroadcastHalf(block);
    ExpandFiveBits<kVectors>(block + 2, block + 6, scale, hn::Mul(scale, hn::Set(F32Tag(), -16.0f)), w);
  }
};

struct Q5_1Codec : Block32Codec<24> {
  static HWY_INLINE void Step(Block block, int, F32* HWY_RESTRICT w) {
    ExpandFiveBits<kVectors>(block + 4, block + 8, BroadcastHalf(block), BroadcastHalf(block + 2), w);
  }
};

// ---- Super-blocks of 256

// Scales and minima of the eight sub-blocks of a Q4_K or Q5_K super-block, 6 bits each in 12 bytes, times the
// super-block's own scale and minimum.
struct SubBlockScales {
  HWY_ALIGN float scale[8];
  HWY_ALIGN float minimum[8];
  const uint8_t* data;
};

HWY_INLINE SubBlockScales OpenSubBlocks(const uint8_t* block) {
  const uint8_t* packed = block + 4;
  const uint32_t first = LoadU32(packed), second = LoadU32(packed + 4), third = LoadU32(packed + 8);
  const uint32_t words[4] = {
      first & 0x3F3F3F3Fu, (third & 0x0F0F0F0Fu) | (((first >> 6) & 0x03030303u) << 4),  // scales 0-3, 4-7
      second & 0x3F3F3F3Fu, ((third >> 4) & 0x0F0F0F0Fu) | (((second >> 6) & 0x03030303u) << 4)};  // minima
  const hn::CappedTag<float, 8> f32;
  const hn::Rebind<int32_t, decltype(f32)> i32;
  const hn::Rebind<uint8_t, decltype(f32)> u8;
  const auto scale = hn::Set(f32, HalfToFloat(LoadU16(block)));
  const auto minimum = hn::Set(f32, HalfToFloat(LoadU16(block + 2)));
  const auto* bytes = reinterpret_cast<const uint8_t*>(words);
  SubBlockScales scales;
  scales.data = block;
  for (int64_t i = 0; i < 8; i += static_cast<int64_t>(hn::MaxLanes(f32))) {
    const auto s = hn::ConvertTo(f32, hn::PromoteTo(i32, hn::LoadU(u8, bytes + i)));
    const auto m = hn::ConvertTo(f32, hn::PromoteTo(i32, hn::LoadU(u8, bytes + 8 + i)));
    hn::StoreU(hn::Mul(scale, s), f32, scales.scale + i);
    hn::StoreU(hn::Mul(minimum, m), f32, scales.minimum + i);
  }
  return scales;
}

template <int64_t kBytes>
struct SubBlockCodec {  // a step is a pair of sub-blocks: the low and the high nibbles of 32 bytes
  static constexpr int64_t kElementBytes = 0;
  static constexpr int64_t kBlockElements = 256;
  static constexpr int64_t kBlockBytes = kBytes;
  static constexpr int kSteps = 4;
  static constexpr int kVectors = kVectorsOf<64>;
  using Block = SubBlockScales;
  static HWY_INLINE Block Open(const uint8_t* block) { return OpenSubBlocks(block); }
};

struct Q4_KCodec : SubBlockCodec<144> {
  static HWY_INLINE void Step(const Block& block, int step, F32* HWY_RESTRICT w) {
    const F32Tag f32;
    const uint8_t* quants = block.data + 16 + step * 32;
    const F32 low_scale = hn::Set(f32, block.scale[2 * step]);
    const F32 low_minimum = hn::Set(f32, block.minimum[2 * step]);
    const F32 high_scale = hn::Set(f32, block.scale[2 * step + 1]);
    const F32 high_minimum = hn::Set(f32, block.minimum[2 * step + 1]);
    THERMOCLINE_UNROLL(8)
    for (int k = 0; k < kVectors / 2; ++k) {
      const I32 bytes = LoadBytes(quants + k * kLanes);
      w[k] = hn::MulSub(low_scale, LowNibbles(bytes), low_minimum);
      w[k + kVectors / 2] = hn::MulSub(high_scale, HighNibbles(bytes), high_minimum);
    }
  }
};

struct Q5_KCodec : SubBlockCodec<176> {
  // Byte j of the 32 at offset 16 holds the fifth bits of element j of each sub-block, sub-block s at bit s.
  static HWY_INLINE void Step(const Block& block, int step, F32* HWY_RESTRICT w) {
    const F32Tag f32;
    const I32Tag i32;
    const uint8_t* quants = block.data + 48 + step * 32;
    const F32 low_scale = hn::Set(f32, block.scale[2 * step]);
    const F32 low_minimum = hn::Set(f32, block.minimum[2 * step]);
    const F32 high_scale = hn::Set(f32, block.scale[2 * step + 1]);
    const F32 high_minimum = hn::Set(f32, block.minimum[2 * step + 1]);
    const I32 low_bit = hn::Set(i32, 1 << (2 * step));
    const I32 high_bit = hn::Set(i32, 2 << (2 * step));
    const I32 sixteen = hn::Set(i32, 16);
    THERMOCLINE_UNROLL(8)
    for (int k = 0; k < kVectors / 2; ++k) {
      const I32 bytes = LoadBytes(quants + k * kLanes);
      const I32 fifth = LoadBytes(block.data + 16 + k * kLanes);
      const I32 low =
          hn::Or(hn::And(bytes, hn::Set(i32, 15)), hn::IfThenElseZero(hn::TestBit(fifth, low_bit), sixteen));
      const I32 high =
          hn::Or(hn::ShiftRight<4>(bytes), hn::IfThenElseZero(hn::TestBit(fifth, high_bit), sixteen));
      w[k] = hn::MulSub(low_scale, hn::ConvertTo(f32, low), low_minimum);
      w[k + kVectors / 2] = hn::MulSub(high_scale, hn::ConvertTo(f32, high), high_minimum);
    }
  }
};

// 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed scales of 16 elements each, an F16 scale.
// A half of 128 elements owns 64 and 32 of those bytes; its quarter q (32 elements) has its low bits in bytes
// (q % 2) * 32 and on, nibble q / 2, and its upper bits at bit 2q of the 32 bytes.
struct Q6_KCodec {
  static constexpr int64_t kElementBytes = 0;
  static constexpr int64_t kBlockElements = 256;
  static constexpr int64_t kBlockBytes = 210;
  static constexpr int kSteps = 8;
  static constexpr int kVectors = kVectorsOf<32>;
  struct Block {
    HWY_ALIGN float scale[16];
    const uint8_t* data;
  };

  static HWY_INLINE Block Open(const uint8_t* data) {
    const hn::Rebind<int8_t, F32Tag> i8;
    const F32 scale = BroadcastHalf(data + 208);
    Block block;
    block.data = data;
    for (int64_t i = 0; i < 16; i += kLanes) {
      const auto sub = LoadElements(i8, data + 192 + i);
      hn::Store(hn::Mul(scale, hn::ConvertTo(F32Tag(), hn::PromoteTo(I32Tag(), sub))), F32Tag(),
                block.scale + i);
    }
    return block;
  }

  static HWY_INLINE void Step(const Block& block, int step, F32* HWY_RESTRICT w) {
    const F32Tag f32;
    const I32Tag i32;
    const int half = step / 4, quarter = step % 4;
    const uint8_t* low = block.data + half * 64 + (quarter % 2) * 32;
    const uint8_t* high = block.data + 128 + half * 32;
    THERMOCLINE_UNROLL(8)
    for (int k = 0; k < kVectors; ++k) {
      const I32 nibble =
          hn::And(hn::ShiftRightSame(LoadBytes(low + k * kLanes), (quarter / 2) * 4), hn::Set(i32, 15));
      const I32 pair =
          hn::And(hn::ShiftRightSame(LoadBytes(high + k * kLanes), quarter * 2), hn::Set(i32, 3));
      const I32 quant = hn::Sub(hn::Or(nibble, hn::ShiftLeft<4>(pair)), hn::Set(i32, 32));
      const F32 scale = hn::Set(f32, block.scale[step * 2 + k * kLanes / 16]);
      w[k] = hn::Mul(scale, hn::ConvertTo(f32, quant));
    }
  }
};

// The last `count` (< 32) elements of a row of plain floats, zeros after them. Reads nothing past them.
template <class Codec>
HWY_INLINE void DecodeTail(const uint8_t* source, int64_t count, F32* HWY_RESTRICT w) {
  static_assert(Codec::kElementBytes > 0);
  alignas(64) uint8_t padded[Codec::kBlockBytes] = {};
  std::memcpy(padded, source, static_cast<size_t>(count * Codec::kElementBytes));
  Codec::Step(Codec::Open(padded), 0, w);
}

// Op<Codec>::Run of the element type's codec: the one place where a type becomes code. Static, since g++ 12
// gives the instances of two files' unnamed Ops of the same name one weak symbol, and the linker would keep
// either.
template <template <class> class Op>
static auto SelectByType(ElementType type) -> decltype(&Op<F32Codec>::Run) {
  switch (type) {
    case ElementType::kF32:
      return &Op<F32Codec>::Run;
    case ElementType::kF16:
      return &Op<F16Codec>::Run;
    case ElementType::kBF16:
      return &Op<BF16Codec>::Run;
    case ElementType::kQ4_0:
      return &Op<Q4_0Codec>::Run;
    case ElementType::kQ4_1:
      return &Op<Q4_1Codec>::Run;
    case ElementType::kQ5_0:
      return &Op<Q5_0Codec>::Run;
    case ElementType::kQ5_1:
      return &Op<Q5_1Codec>::Run;
    case ElementType::kQ8_0:
      return &Op<Q8_0Codec>::Run;
    case ElementType::kQ4_K:
      return &Op<Q4_KCodec>::Run;
    case ElementType::kQ5_K:
      return &Op<Q5_KCodec>::Run;
    case ElementType::kQ6_K:
      return &Op<Q6_KCodec>::Run;
  }
  TC_CHECK(false);
}

}  // namespace HWY_NAMESPACE
}  // namespace thermocline
HWY_AFTER_NAMESPACE();

#endif  // toggled guard
