// The vector operations of AVX-512 with VNNI that packed_tiles-inl.h and column_tiles-inl.h are written over.
// SPDX-License-Identifier: Apache-2.0
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace thermocline {
namespace THERMOCLINE_TILES {

struct Ops {
  static constexpr int kLanes = 16;
  static constexpr int kTilePanels = 2, kTileTokens = 6;  // 12 sums, 12 results, weights and activations
  static constexpr int kByteOffset = 128;
  using Floats = __m512;
  using Bytes = __m512i;
  using Quad = __m512i;
  using Pairs = __m512i;

  struct Sum {
    __m512i sum;
    static inline Sum Start(int32_t init) { return {_mm512_set1_epi32(init)}; }
    inline void Add(Bytes words, Quad quad) { sum = _mm512_dpbusd_epi32(sum, words, quad); }
    inline Floats Total(int32_t) const { return _mm512_cvtepi32_ps(sum); }
  };
  template <bool>
  using SumOf = Sum;

  struct PairSum {
    __m512i sum;
    static inline PairSum Start() { return {_mm512_setzero_si512()}; }
    inline void Add(Pairs weights, Pairs pair) { sum = _mm512_dpwssd_epi32(sum, weights, pair); }
    inline Floats Total() const { return _mm512_cvtepi32_ps(sum); }
  };
  static inline Pairs LoadPairs(const uint8_t* at) { return _mm512_loadu_si512(at); }
  static inline Pairs BroadcastPair(const int16_t* at) {
    int32_t two;
    std::memcpy(&two, at, sizeof two);
    return _mm512_set1_epi32(two);
  }

  static inline Bytes LoadWords(const uint8_t* at) { return _mm512_loadu_si512(at); }
  static inline Bytes LowNibbles(Bytes words) { return _mm512_and_si512(words, _mm512_set1_epi8(15)); }
  static inline Bytes HighNibbles(Bytes words) {
    return _mm512_and_si512(_mm512_srli_epi16(words, 4), _mm512_set1_epi8(15));
  }
  static inline Bytes PrepareBytes(Bytes words) { return _mm512_xor_si512(words, _mm512_set1_epi8(-128)); }
  static inline void Transpose(const Bytes (&columns)[4], Bytes (&words)[4]) {
    const __m512i lower01 = _mm512_unpacklo_epi8(columns[0], columns[1]);
    const __m512i upper01 = _mm512_unpackhi_epi8(columns[0], columns[1]);
    const __m512i lower23 = _mm512_unpacklo_epi8(columns[2], columns[3]);
    const __m512i upper23 = _mm512_unpackhi_epi8(columns[2], columns[3]);
    words[0] = _mm512_unpacklo_epi16(lower01, lower23);
    words[1] = _mm512_unpackhi_epi16(lower01, lower23);
    words[2] = _mm512_unpacklo_epi16(upper01, upper23);
    words[3] = _mm512_unpackhi_epi16(upper01, upper23);
  }
  static inline Quad LoadQuad(const int8_t* at) {
    int32_t four;
    std::memcpy(&four, at, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static inline Floats ZeroFloats() { return _mm512_setzero_ps(); }
  static inline Floats Broadcast(float value) { return _mm512_set1_ps(value); }
  static inline Floats Mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
  static inline Floats MulAdd(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
  static inline Floats Negative(Floats a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
  static inline Floats LoadHalves(const uint8_t* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static inline Floats LoadBFloats(const uint8_t* at) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  }
  static inline Floats LoadBytes(const uint8_t* at) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
  }
  static inline Floats Load(const float* at) { return _mm512_loadu_ps(at); }
  static inline void Store(Floats a, float* at) { _mm512_storeu_ps(at, a); }
};

}  // namespace THERMOCLINE_TILES
}  // namespace thermocline
