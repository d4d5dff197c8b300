// Codecs: how the kernels read rows of weights of each type, from copies of their blocks in shared memory.
// SPDX-License-Identifier: Apache-2.0
//
// Rows are worked on in steps of whole columns a lane. 256 columns take 1024, 512, 272 or 144 bytes, all
// multiples of 16 although blocks of Q8_0 (34 bytes) and Q4_0 (18) are not: so the copy from device memory is
// made of 16-byte pieces whatever the type, full transactions, and it is shared memory that is read at odd
// places.
//
// A codec's value is scale * w[i]; plain floats have no scale. Quants become floats through the mantissa of
// 2^23 (a byte there is an integer from 2^23 on), since conversion instructions run at an eighth of the rate.
#pragma once

#include <cuda_fp16.h>

#include "core/element_type.h"
#include "kernels_cuda/backend.h"

namespace thermocline::TC_GPU_NAMESPACE {

// Of the sums of rows (the down product): a lane has eight columns side by side.
inline constexpr int kLaneColumns = 8;
inline constexpr int kStepColumns = 256;

// A place in shared memory: on a device its 32-bit address, which can be kept in one register.
#ifdef __CUDA_ARCH__
using SharedPlace = uint32_t;
__device__ __forceinline__ SharedPlace PlaceOf(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}
__device__ __forceinline__ std::byte* BytesAt(SharedPlace place) {
  return static_cast<std::byte*>(__cvta_shared_to_generic(place));
}
// Keeps a value from being computed anew wherever it is used: inner loops have no instruction to spare.
template <typename T>
__device__ __forceinline__ T Pinned(T value) {
  static_assert(sizeof(T) == sizeof(uint32_t));
  asm volatile("" : "+r"(value));
  return value;
}
#else
using SharedPlace = std::byte*;
inline SharedPlace PlaceOf(const void* shared) {
  return const_cast<std::byte*>(static_cast<const std::byte*>(shared));
}
inline std::byte* BytesAt(SharedPlace place) { return place; }
template <typename T>
T Pinned(T value) {
  return value;
}
#endif

// Where in a step a lane finds its weights: the first word, the bits before its quants in there, the scale.
struct LanePlace {
  int words;
  int shift;
  int scale;
};

// The same in a piece of a row that lies in shared memory.
struct LanePiece {
  const std::byte* words;
  const std::byte* scale;
  int shift;

  __device__ __forceinline__ LanePiece operator+(int bytes) const {
    return {words + bytes, scale + bytes, shift};
  }
};

// For products along a row a codec says which quads of columns a lane has of a step: kQuads of them, the k-th
// being FirstQuad(lane) ^ NextQuad(k). Here: eight columns side by side.
struct SideBySide {
  static constexpr int kQuads = 2;
  static __device__ __forceinline__ int FirstQuad(int lane) { return 2 * lane; }
  static __device__ __forceinline__ constexpr int NextQuad(int k) { return k; }
};

// Bits [shift, shift + 32) of high:low; shift < 32.
__device__ __forceinline__ uint32_t ShiftPair(uint32_t low, uint32_t high, uint32_t shift) {
#ifdef __CUDA_ARCH__
  return __funnelshift_r(low, high, shift);
#else
  return static_cast<uint32_t>((static_cast<uint64_t>(high) << 32 | low) >> shift);
#endif
}

// 2^23 + byte k.
template <int k>
__device__ __forceinline__ float ByteInMantissa(uint32_t word) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7440 + k));
#else
  return __uint_as_float(0x4B000000u | (word >> (8 * k) & 0xFFu));
#endif
}

// w[0..8) = the bytes of two words - bias, exactly.
__device__ __forceinline__ void ExpandBytes(uint32_t first, uint32_t second, float bias,
                                            float (&w)[kLaneColumns]) {
  const float offset = 8388608.0f + bias;
  w[0] = ByteInMantissa<0>(first) - offset;
  w[1] = ByteInMantissa<1>(first) - offset;
  w[2] = ByteInMantissa<2>(first) - offset;
  w[3] = ByteInMantissa<3>(first) - offset;
  w[4] = ByteInMantissa<0>(second) - offset;
  w[5] = ByteInMantissa<1>(second) - offset;
  w[6] = ByteInMantissa<2>(second) - offset;
  w[7] = ByteInMantissa<3>(second) - offset;
}

__device__ __forceinline__ float HalfAt(const std::byte* address) {
  return __half2float(__ushort_as_half(*reinterpret_cast<const uint16_t*>(address)));
}

struct F32Codec : SideBySide {
  static constexpr int kStepBytes = 1024;
  static constexpr int kSegmentBytes = 1024;  // of a row, copied at a time: about 1 KiB
  // Of the down product's warps: rows copied at a time, and times that the ring holds.
  static constexpr int kTurnRows = 1;
  static constexpr int kTurns = 5;
  static constexpr bool kScaled = false;
  // The lane's columns of a step; the scale of those that have one. Place: of 256 columns, eight a lane.
  static __device__ __forceinline__ LanePlace Place(int lane) { return {32 * lane, 0, 0}; }
  static __device__ __forceinline__ float Decode(const LanePiece& piece, float (&w)[kLaneColumns]) {
    const auto* source = reinterpret_cast<const float4*>(piece.words);
    const float4 first = source[0], second = source[1];
    w[0] = first.x, w[1] = first.y, w[2] = first.z, w[3] = first.w;
    w[4] = second.x, w[5] = second.y, w[6] = second.z, w[7] = second.w;
    return 1.0f;
  }
};

struct F16Codec : SideBySide {
  static constexpr int kStepBytes = 512;
  static constexpr int kSegmentBytes = 1024;
  static constexpr int kTurnRows = 2;
  static constexpr int kTurns = 5;
  static constexpr bool kScaled = false;
  static __device__ __forceinline__ LanePlace Place(int lane) { return {16 * lane, 0, 0}; }
  static __device__ __forceinline__ float Decode(const LanePiece& piece, float (&w)[kLaneColumns]) {
    const uint4 words = *reinterpret_cast<const uint4*>(piece.words);
    Expand(words.x, w[0], w[1]);
    Expand(words.y, w[2], w[3]);
    Expand(words.z, w[4], w[5]);
    Expand(words.w, w[6], w[7]);
    return 1.0f;
  }

 private:
  static __device__ __forceinline__ void Expand(uint32_t word, float& low, float& high) {
    low = __half2float(__ushort_as_half(static_cast<uint16_t>(word)));
    high = __half2float(__ushort_as_half(static_cast<uint16_t>(word >> 16)));
  }
};

struct BF16Codec : SideBySide {
  static constexpr int kStepBytes = 512;
  static constexpr int kSegmentBytes = 1024;
  static constexpr int kTurnRows = 2;
  static constexpr int kTurns = 5;
  static constexpr bool kScaled = false;
  static __device__ __forceinline__ LanePlace Place(int lane) { return {16 * lane, 0, 0}; }
  static __device__ __forceinline__ float Decode(const LanePiece& piece, float (&w)[kLaneColumns]) {
    const uint4 words = *reinterpret_cast<const uint4*>(piece.words);
    Expand(words.x, w[0], w[1]);
    Expand(words.y, w[2], w[3]);
    Expand(words.z, w[4], w[5]);
    Expand(words.w, w[6], w[7]);
    return 1.0f;
  }

 private:
  static __device__ __forceinline__ void Expand(uint32_t word, float& low, float& high) {
    low = __uint_as_float(word << 16);
    high = __uint_as_float(word & 0xFFFF0000u);
  }
};

// Blocks of 32 columns: an F16 scale, then quants. Quants of even blocks start between words.
struct Q8_0Codec : SideBySide {
  static constexpr int kStepBytes = 272;
  static constexpr int kSegmentBytes = 1088;
  static constexpr int kTurnRows = 4;
  static constexpr int kTurns = 4;
  static constexpr bool kScaled = true;
  static __device__ __forceinline__ LanePlace Place(int lane) {
    const int block = lane / 4 * 34, quants = block + 2 + lane % 4 * 8;
    return {quants / 4 * 4, quants % 4 * 8, block};
  }
  static __device__ __forceinline__ float Decode(const LanePiece& piece, float (&w)[kLaneColumns]) {
    const auto* words = reinterpret_cast<const uint32_t*>(piece.words);
    const uint32_t middle = words[1];
    ExpandBytes(ShiftPair(words[0], middle, piece.shift) ^ 0x80808080u,
                ShiftPair(middle, words[2], piece.shift) ^ 0x80808080u, 128.0f, w);
    return HalfAt(piece.scale);
  }
};

// Byte j of the quants holds column j (low nibble) and column j + 16 (high).
struct Q4_0Codec {
  static constexpr int kStepBytes = 144;
  static constexpr int kSegmentBytes = 1152;
  static constexpr int kTurnRows = 4;
  static constexpr int kTurns = 6;
  static constexpr bool kScaled = true;
  static __device__ __forceinline__ LanePlace Place(int lane) {
    const int block = lane / 4 * 18, quants = block + 2 + lane % 2 * 8;
    return {quants / 4 * 4, quants % 4 * 8 + lane / 2 % 2 * 4, block};
  }
  static __device__ __forceinline__ float Decode(const LanePiece& piece, float (&w)[kLaneColumns]) {
    const auto* words = reinterpret_cast<const uint32_t*>(piece.words);
    const uint32_t middle = words[1];
    ExpandBytes(ShiftPair(words[0], middle, piece.shift) & 0x0F0F0F0Fu,
                ShiftPair(middle, words[2], piece.shift) & 0x0F0F0F0Fu, 8.0f, w);
    return HalfAt(piece.scale);
  }

  // For products: half a block a lane, eight bytes and so two times eight columns.
  static constexpr int kQuads = 4;
  static __device__ __forceinline__ int FirstQuad(int lane) { return lane / 2 * 8 + lane % 2 * 2; }
  static __device__ __forceinline__ constexpr int NextQuad(int k) { return k / 2 * 4 + k % 2; }
  static __device__ __forceinline__ LanePlace ProductPlace(int lane) {
    const int block = lane / 2 * 18, quants = block + 2 + lane % 2 * 8;
    return {quants / 4 * 4, quants % 4 * 8, block};
  }
  // low[i]: the first eight; high[i]: 16 times the other eight, which saves moving their nibbles.
  static __device__ __forceinline__ float DecodePairs(const LanePiece& piece, float (&low)[kLaneColumns],
                                                      float (&high)[kLaneColumns]) {
    const auto* words = reinterpret_cast<const uint32_t*>(piece.words);
    const uint32_t middle = words[1];
    const uint32_t first = ShiftPair(words[0], middle, piece.shift);
    const uint32_t second = ShiftPair(middle, words[2], piece.shift);
    ExpandBytes(first & 0x0F0F0F0Fu, second & 0x0F0F0F0Fu, 8.0f, low);
    ExpandBytes(first & 0xF0F0F0F0u, second & 0xF0F0F0F0u, 128.0f, high);
    return HalfAt(piece.scale);
  }
};

// A lane's weights of one step of one row, for products with inputs.
template <class Codec>
struct LaneWeights {
  float w[kLaneColumns];
  float scale;

  static __device__ __forceinline__ LanePlace Place(int lane) { return Codec::Place(lane); }
  __device__ __forceinline__ void Decode(const LanePiece& piece) { scale = Codec::Decode(piece, w); }
  // sum + w . x. x: the lane's quads.
  __device__ __forceinline__ float AddProducts(const float4 (&x)[2], float sum) const {
    float part = Codec::kScaled ? 0.0f : sum;
    part = AddQuad(w, x[0], part);
    part = AddQuad(w + 4, x[1], part);
    return Codec::kScaled ? __fmaf_rn(scale, part, sum) : part;
  }

  static __device__ __forceinline__ float AddQuad(const float* w, const float4& x, float sum) {
    sum = __fmaf_rn(w[0], x.x, sum);
    sum = __fmaf_rn(w[1], x.y, sum);
    sum = __fmaf_rn(w[2], x.z, sum);
    return __fmaf_rn(w[3], x.w, sum);
  }
};

template <>
struct LaneWeights<Q4_0Codec> {
  float low[kLaneColumns];
  float high[kLaneColumns];
  float scale;

  static __device__ __forceinline__ LanePlace Place(int lane) { return Q4_0Codec::ProductPlace(lane); }
  __device__ __forceinline__ void Decode(const LanePiece& piece) {
    scale = Q4_0Codec::DecodePairs(piece, low, high);
  }
  __device__ __forceinline__ float AddProducts(const float4 (&x)[4], float sum) const {
    using Floats = LaneWeights<F32Codec>;
    const float first = Floats::AddQuad(low + 4, x[1], Floats::AddQuad(low, x[0], 0.0f));
    const float second = Floats::AddQuad(high + 4, x[3], Floats::AddQuad(high, x[2], 0.0f));
    return __fmaf_rn(scale, __fmaf_rn(0.0625f, second, first), sum);
  }
};

// Calls body(codec) of one of the types of the GPU, as the launcher has checked.
template <class Body>
__device__ __forceinline__ void WithCodec(ElementType type, const Body& body) {
  switch (type) {
    case ElementType::kF32:
      return body(F32Codec());
    case ElementType::kF16:
      return body(F16Codec());
    case ElementType::kBF16:
      return body(BF16Codec());
    case ElementType::kQ8_0:
      return body(Q8_0Codec());
    default:
      return body(Q4_0Codec());
  }
}

}  // namespace thermocline::TC_GPU_NAMESPACE
