// Products of panels by tiles of 16 tokens by 16 rows (AMX), with the bits of packed_tiles-inl.h.
// SPDX-License-Identifier: Apache-2.0
//
// A tile product covers one block of 32 columns; its integers are scaled and summed in AVX-512 while the next
// ones are multiplied. The includer defines the tile instructions, whose operands are literal numbers, as
// THERMOCLINE_TILE_CONFIG(memory), _RELEASE(), _ZERO(t), _LOAD(t, base, stride), _STORE(t, base, stride) and
// _DOT(c, a, b), and the namespace THERMOCLINE_TILES with the `Ops` of AVX-512.
#include <cstdint>
#include <cstring>

#include "kernels_cpu/packed_matrix.h"
#include "kernels_cpu/quantized_activations.h"

namespace thermocline {
namespace THERMOCLINE_TILES {

constexpr int64_t kTileTokens = 16;
constexpr int64_t kTileWords = 8;     // of 4 columns: a block
constexpr int64_t kTileBytes = 512;   // of a block of 16 rows in bytes
constexpr int64_t kFewestTokens = 4;  // below, vectors are taken
constexpr int64_t kInFlight = 2;      // blocks whose products are on their way

// The operand of the instruction that configures tiles.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Tiles 0 and 1: sums, 2 and 3: activations, 4 and 5: weights.
inline void Configure(int64_t tokens) {
  TileConfig config;
  for (int i = 0; i < 2; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = static_cast<uint8_t>(tokens);
    config.row_bytes[2 + i] = kActivationBlock;
    config.rows[2 + i] = static_cast<uint8_t>(tokens);
    config.row_bytes[4 + i] = 64;
    config.rows[4 + i] = kTileWords;
  }
  THERMOCLINE_TILE_CONFIG(&config);
}

// The panel's 4-bit weights as bytes, less the type's offset.
inline void Expand(const uint8_t* quants, int64_t n_blocks, int offset, uint8_t* bytes) {
  const __m512i low = _mm512_set1_epi8(15), less = _mm512_set1_epi8(static_cast<char>(offset));
  for (int64_t b = 0; b < n_blocks; ++b, quants += kTileBytes / 2, bytes += kTileBytes) {
    for (int64_t k = 0; k < kTileWords / 2; ++k) {
      const __m512i words = _mm512_loadu_si512(quants + 64 * k);
      const __m512i lower = _mm512_and_si512(words, low);
      const __m512i upper = _mm512_and_si512(_mm512_srli_epi16(words, 4), low);
      _mm512_storeu_si512(bytes + 64 * k, _mm512_sub_epi8(lower, less));
      _mm512_storeu_si512(bytes + 64 * (k + kTileWords / 2), _mm512_sub_epi8(upper, less));
    }
  }
}

// results += the scaled integers of block b.
template <class Panel, bool kWhole>
inline void AddBlock(const int32_t* products, const uint8_t* scales, const QuantizedActivations& x,
                     int64_t token, int64_t tokens, int64_t b, __m512* results) {
  const __m512 scale = Panel::Scale(scales, b, 0);
#pragma GCC unroll 16
  for (int64_t t = 0; t < (kWhole ? kTileTokens : tokens); ++t) {
    const ActivationBlock& block = x.blocks.row_data(token + t)[b];
    const __m512 product = _mm512_cvtepi32_ps(_mm512_loadu_si512(products + 16 * t));
    results[t] = _mm512_fmadd_ps(product, _mm512_mul_ps(scale, _mm512_set1_ps(block.scale)), results[t]);
    if constexpr (Panel::kMinimum)
      results[t] =
          _mm512_fmadd_ps(Panel::Minimum(scales, b, 0), _mm512_set1_ps(block.scaled_sum), results[t]);
  }
}

// One panel for up to kTileTokens tokens. bytes: the panel's weights as signed bytes.
// kWhole: kTileTokens, whose results stay in registers.
template <class Panel, bool kWhole>
__attribute__((noinline)) void PanelTile(const uint8_t* bytes, const uint8_t* scales, int64_t n_blocks,
                                         const QuantizedActivations& x, int64_t token, int64_t tokens,
                                         int64_t rows, MatrixView<float> y, int64_t row) {
  alignas(64) int32_t products[kInFlight][kTileTokens * kPanelRows];
  __m512 results[kTileTokens];
#pragma GCC unroll 16
  for (int64_t t = 0; t < kTileTokens; ++t) results[t] = _mm512_setzero_ps();
  const int8_t* values = x.values.row_data(token);
  int64_t b = 0;
  for (; b + kInFlight <= n_blocks; b += kInFlight) {
    THERMOCLINE_TILE_ZERO(0);
    THERMOCLINE_TILE_LOAD(2, values + b * kActivationBlock, x.values.stride);
    THERMOCLINE_TILE_LOAD(4, bytes + b * kTileBytes, 64);
    THERMOCLINE_TILE_DOT(0, 2, 4);
    THERMOCLINE_TILE_ZERO(1);
    THERMOCLINE_TILE_LOAD(3, values + (b + 1) * kActivationBlock, x.values.stride);
    THERMOCLINE_TILE_LOAD(5, bytes + (b + 1) * kTileBytes, 64);
    THERMOCLINE_TILE_DOT(1, 3, 5);
    THERMOCLINE_TILE_STORE(0, products[0], 64);
    AddBlock<Panel, kWhole>(products[0], scales, x, token, tokens, b, results);
    THERMOCLINE_TILE_STORE(1, products[1], 64);
    AddBlock<Panel, kWhole>(products[1], scales, x, token, tokens, b + 1, results);
  }
  if (b < n_blocks) {
    THERMOCLINE_TILE_ZERO(0);
    THERMOCLINE_TILE_LOAD(2, values + b * kActivationBlock, x.values.stride);
    THERMOCLINE_TILE_LOAD(4, bytes + b * kTileBytes, 64);
    THERMOCLINE_TILE_DOT(0, 2, 4);
    THERMOCLINE_TILE_STORE(0, products[0], 64);
    AddBlock<Panel, kWhole>(products[0], scales, x, token, tokens, b, results);
  }
  const auto mask = static_cast<__mmask16>((1u << (rows < kPanelRows ? rows : kPanelRows)) - 1);
#pragma GCC unroll 16
  for (int64_t t = 0; t < (kWhole ? kTileTokens : tokens); ++t)
    _mm512_mask_storeu_ps(y.row_data(token + t) + row, mask, results[t]);
}

// y of all panels and `count` tokens from `token` on, at most kTileTokens at a time. room: n_blocks *
// kTileBytes, for types of 4 bits.
template <class Panel>
inline void TiledTokens(const PackedView& w, const QuantizedActivations& x, int64_t token, int64_t count,
                        uint8_t* room, MatrixView<float> y) {
  const int64_t n_blocks = w.cols / kActivationBlock;
  for (int64_t panel = 0; panel < w.panels(); ++panel) {
    const auto* quants = reinterpret_cast<const uint8_t*>(w.panel(panel));
    const uint8_t* scales = quants + w.layout.scales_offset;
    const uint8_t* bytes = quants;
    if constexpr (Panel::kNibbles) {
      Expand(quants, n_blocks, Panel::kOffset, room);
      bytes = room;
    }
    const int64_t row = panel * kPanelRows;
    for (int64_t t = token; t < token + count; t += kTileTokens) {
      const int64_t tokens = token + count - t < kTileTokens ? token + count - t : kTileTokens;
      const auto tile = tokens == kTileTokens ? PanelTile<Panel, true> : PanelTile<Panel, false>;
      tile(bytes, scales, n_blocks, x, t, tokens, w.rows - row, y, row);
    }
  }
}

template <class Panel>
inline void TiledPanels(const PackedView& w, const QuantizedActivations& x, uint8_t* room,
                        MatrixView<float> y) {
  const int64_t whole = x.values.rows / kTileTokens * kTileTokens, rest = x.values.rows - whole;
  if (whole > 0) {
    Configure(kTileTokens);
    TiledTokens<Panel>(w, x, 0, whole, room, y);
  }
  if (rest >= kFewestTokens) {
    Configure(rest);
    TiledTokens<Panel>(w, x, whole, rest, room, y);
  }
  THERMOCLINE_TILE_RELEASE();
  if (rest > 0 && rest < kFewestTokens) MatMulPanels<Ops>(w, x.Tokens(whole, rest), y.Rows(whole, rest));
}

// Contract: KernelTable::mat_mul_packed. room: cols * kPanelRows bytes.
inline void MatMulTiled(const PackedView& w, const QuantizedActivations& x, uint8_t* room,
                        MatrixView<float> y) {
  if (x.values.rows < kFewestTokens) return MatMulPanels<Ops>(w, x, y);
  switch (w.type) {
    case ElementType::kQ8_0:
      return TiledPanels<Q8_0Panel<Ops>>(w, x, room, y);
    case ElementType::kQ4_0:
      return TiledPanels<Q4_0Panel<Ops>>(w, x, room, y);
    case ElementType::kQ4_1:
      return TiledPanels<Q4_1Panel<Ops>>(w, x, room, y);
    default:
      return TiledPanels<Q4_KPanel<Ops>>(w, x, room, y);
  }
}

}  // namespace THERMOCLINE_TILES
}  // namespace thermocline
