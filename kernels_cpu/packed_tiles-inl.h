// Products of panels with rounded activations, written once over the vector operations of an instruction set.
// SPDX-License-Identifier: Apache-2.0
//
// Included by the files that define such operations, inside their target's region, with THERMOCLINE_TILES set
// to a namespace of their own. `Ops` gives vectors of kLanes floats and 32-bit integers, each lane a row of
// the panel:
//   NibbleSum, ByteSum   sums of products of 4-bit (unsigned) and 8-bit weights in a block
//   Start(init), Add(sum, words, quad), Total(sum, init): such a sum from `init` on; four columns of each row
//   kByteOffset          what was added to 8-bit weights to make them unsigned: 128 or 0
//   PairSum              sums of products of 16-bit weights: two columns of each row
//
// y(t, r) = the sum over the blocks of 32 columns, ascending, of scale_w * scale_x * (the integer product),
// each by one multiply-add to the sum so far; types with minima add minimum * scaled_sum after each. Integer
// products are exact, so the bits depend neither on the instruction set nor on companions.
#include <cstdint>

#include "core/element_type.h"
#include "kernels_cpu/packed_matrix.h"
#include "kernels_cpu/quantized_activations.h"

namespace thermocline {
namespace THERMOCLINE_TILES {

// ---- Panels of each type: `scales` is the panel's region of scales, v counts its vectors of rows.

template <class Ops>
struct Q8_0Panel {
  static constexpr bool kNibbles = false, kMinimum = false;
  static constexpr int kOffset = Ops::kByteOffset;
  static inline typename Ops::Floats Scale(const uint8_t* scales, int64_t b, int v) {
    return Ops::LoadHalves(scales + b * 32 + v * Ops::kLanes * 2);
  }
};

template <class Ops>
struct Q4_0Panel {
  static constexpr bool kNibbles = true, kMinimum = false;
  static constexpr int kOffset = 8;
  static inline typename Ops::Floats Scale(const uint8_t* scales, int64_t b, int v) {
    return Ops::LoadHalves(scales + b * 32 + v * Ops::kLanes * 2);
  }
};

template <class Ops>
struct Q4_1Panel {
  static constexpr bool kNibbles = true, kMinimum = true;
  static constexpr int kOffset = 0;
  static inline typename Ops::Floats Scale(const uint8_t* scales, int64_t b, int v) {
    return Ops::LoadHalves(scales + b * 64 + v * Ops::kLanes * 2);
  }
  static inline typename Ops::Floats Minimum(const uint8_t* scales, int64_t b, int v) {
    return Ops::LoadHalves(scales + b * 64 + 32 + v * Ops::kLanes * 2);
  }
};

template <class Ops>
struct Q4_KPanel {
  static constexpr bool kNibbles = true, kMinimum = true;
  static constexpr int kOffset = 0;
  static constexpr int64_t kRecord = 320;
  static inline typename Ops::Floats Scale(const uint8_t* scales, int64_t b, int v) {
    const uint8_t* record = scales + b / 8 * kRecord;
    return Ops::Mul(Ops::LoadHalves(record + v * Ops::kLanes * 2),
                    Ops::LoadBytes(record + 64 + b % 8 * kPanelRows + v * Ops::kLanes));
  }
  static inline typename Ops::Floats Minimum(const uint8_t* scales, int64_t b, int v) {
    const uint8_t* record = scales + b / 8 * kRecord;
    return Ops::Negative(Ops::Mul(Ops::LoadHalves(record + 32 + v * Ops::kLanes * 2),
                                  Ops::LoadBytes(record + 192 + b % 8 * kPanelRows + v * Ops::kLanes)));
  }
};

// ---- Tiles

constexpr int64_t kAheadBytes = 4096;  // of what one token reads

// One token waits for memory, some wait for the next tile's panels, which lie behind this one's.
template <int kTokens>
inline void Prefetch(const uint8_t* at, int64_t tile_bytes) {
  if constexpr (kTokens == 1) {
    __builtin_prefetch(at + kAheadBytes);
  } else {
    __builtin_prefetch(at + tile_bytes, 0, 2);
  }
}

template <class Panel>
inline int32_t Init(const ActivationBlock& block) {
  if constexpr (Panel::kOffset == 8) return block.minus_8_sum;
  if constexpr (Panel::kOffset == 128) return block.minus_128_sum;
  return 0;
}

// One token's results for the rows of kPanels panels from `panel` on; the last panel may have fewer.
template <class Ops, int kVectors>
inline void StoreRows(const typename Ops::Floats (&result)[kVectors], const PackedView& w, int64_t panel,
                      float* token_row) {
  float* out = token_row + panel * kPanelRows;
  const int64_t rows = w.rows - panel * kPanelRows;
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const int64_t left = rows - v * Ops::kLanes;
    if (left >= Ops::kLanes) {
      Ops::Store(result[v], out + v * Ops::kLanes);
    } else if (left > 0) {
      float lanes[Ops::kLanes];
      Ops::Store(result[v], lanes);
      for (int64_t l = 0; l < left; ++l) out[v * Ops::kLanes + l] = lanes[l];
    }
  }
}

// The rows of kPanels panels for kTokens tokens.
template <class Ops, class Panel, int kPanels, int kTokens>
__attribute__((noinline)) void Tile(const PackedView& w, int64_t panel, const QuantizedActivations& x,
                                    int64_t token, MatrixView<float> y) {
  constexpr int kParts = static_cast<int>(kPanelRows) / Ops::kLanes;  // vectors of a panel's rows
  constexpr int kVectors = kPanels * kParts;
  using Sum = typename Ops::template SumOf<Panel::kNibbles>;
  const uint8_t* quants[kPanels];
  const uint8_t* scales[kPanels];
  for (int p = 0; p < kPanels; ++p) {
    quants[p] = reinterpret_cast<const uint8_t*>(w.panel(panel + p));
    scales[p] = quants[p] + w.layout.scales_offset;
  }
  const int8_t* values[kTokens];
  const ActivationBlock* blocks[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    values[t] = x.values.row_data(token + t);
    blocks[t] = x.blocks.row_data(token + t);
  }
  typename Ops::Floats result[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) result[t][v] = Ops::ZeroFloats();

  const int64_t n_blocks = w.cols / kActivationBlock;
  const int64_t block_bytes = w.layout.quant_bytes;
  for (int64_t b = 0; b < n_blocks; ++b) {
    Sum sums[kTokens][kVectors];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[t][v] = Sum::Start(Init<Panel>(blocks[t][b]));
    }
    constexpr int kWords = Panel::kNibbles ? 4 : 8;
#pragma GCC unroll 8
    for (int k = 0; k < kWords; ++k) {
      typename Ops::Bytes low[kVectors], high[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const uint8_t* at = quants[v / kParts] + b * block_bytes + k * 64 + v % kParts * Ops::kLanes * 4;
        Prefetch<kTokens>(at, kPanels * w.layout.panel_bytes);
        const typename Ops::Bytes words = Ops::LoadWords(at);
        if constexpr (Panel::kNibbles) {
          low[v] = Ops::LowNibbles(words);
          high[v] = Ops::HighNibbles(words);
        } else {
          low[v] = Ops::PrepareBytes(words);
        }
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const int8_t* at = values[t] + b * kActivationBlock + 4 * k;
        const typename Ops::Quad quad = Ops::LoadQuad(at);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sums[t][v].Add(low[v], quad);
        if constexpr (Panel::kNibbles) {
          const typename Ops::Quad upper = Ops::LoadQuad(at + 16);
#pragma GCC unroll 8
          for (int v = 0; v < kVectors; ++v) sums[t][v].Add(high[v], upper);
        }
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const typename Ops::Floats scale = Panel::Scale(scales[v / kParts], b, v % kParts);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const ActivationBlock& block = blocks[t][b];
        const typename Ops::Floats product = sums[t][v].Total(Init<Panel>(block));
        result[t][v] = Ops::MulAdd(product, Ops::Mul(scale, Ops::Broadcast(block.scale)), result[t][v]);
      }
      if constexpr (Panel::kMinimum) {
        const typename Ops::Floats minimum = Panel::Minimum(scales[v / kParts], b, v % kParts);
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t)
          result[t][v] = Ops::MulAdd(minimum, Ops::Broadcast(blocks[t][b].scaled_sum), result[t][v]);
      }
    }
  }

  for (int t = 0; t < kTokens; ++t) StoreRows<Ops>(result[t], w, panel, y.row_data(token + t));
}

// Panels of F16 and BF16.
template <class Ops>
struct Int16Panel {};

// The same of them.
template <class Ops, class Panel, int kPanels, int kTokens>
__attribute__((noinline)) void Tile(const PackedView& w, int64_t panel, const Int16Activations& x,
                                    int64_t token, MatrixView<float> y) {
  constexpr int kParts = static_cast<int>(kPanelRows) / Ops::kLanes;
  constexpr int kVectors = kPanels * kParts;
  using Sum = typename Ops::PairSum;
  const uint8_t* quants[kPanels];
  const uint8_t* scales[kPanels];
  for (int p = 0; p < kPanels; ++p) {
    quants[p] = reinterpret_cast<const uint8_t*>(w.panel(panel + p));
    scales[p] = quants[p] + w.layout.scales_offset;
  }
  const int16_t* values[kTokens];
  const float* token_scales[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    values[t] = x.values.row_data(token + t);
    token_scales[t] = x.scales.row_data(token + t);
  }
  typename Ops::Floats result[kTokens][kVectors];
  for (int t = 0; t < kTokens; ++t)
    for (int v = 0; v < kVectors; ++v) result[t][v] = Ops::ZeroFloats();

  for (int64_t b = 0; b < w.cols / kActivationBlock; ++b) {
    Sum sums[kTokens][kVectors];
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[t][v] = Sum::Start();
    }
#pragma GCC unroll 16
    for (int k = 0; k < kActivationBlock / 2; ++k) {
      typename Ops::Pairs weights[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const uint8_t* at =
            quants[v / kParts] + b * w.layout.quant_bytes + k * 64 + v % kParts * Ops::kLanes * 4;
        Prefetch<kTokens>(at, kPanels * w.layout.panel_bytes);
        weights[v] = Ops::LoadPairs(at);
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const typename Ops::Pairs pair = Ops::BroadcastPair(values[t] + b * kActivationBlock + 2 * k);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sums[t][v].Add(weights[v], pair);
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      const typename Ops::Floats scale =
          Ops::LoadBFloats(scales[v / kParts] + b * w.layout.scale_bytes + v % kParts * Ops::kLanes * 2);
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const typename Ops::Floats both = Ops::Mul(scale, Ops::Broadcast(token_scales[t][b]));
        result[t][v] = Ops::MulAdd(sums[t][v].Total(), both, result[t][v]);
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) StoreRows<Ops>(result[t], w, panel, y.row_data(token + t));
}

// All tokens, kTokens at a time, then what is left with fewer.
template <class Ops, class Panel, int kPanels, int kTokens, class Activations>
inline void Tokens(const PackedView& w, int64_t panel, const Activations& x, int64_t token,
                   MatrixView<float> y) {
  for (; token + kTokens <= x.values.rows; token += kTokens)
    Tile<Ops, Panel, kPanels, kTokens>(w, panel, x, token, y);
  if constexpr (kTokens > 1) {
    constexpr int kFewer = kTokens > 4 ? 4 : kTokens / 2;
    if (token < x.values.rows) Tokens<Ops, Panel, kPanels, kFewer>(w, panel, x, token, y);
  }
}

template <class Ops, class Panel, class Activations>
inline void Panels(const PackedView& w, const Activations& x, MatrixView<float> y) {
  int64_t panel = 0;
  if (x.values.rows > 1) {
    for (; panel + Ops::kTilePanels <= w.panels(); panel += Ops::kTilePanels)
      Tokens<Ops, Panel, Ops::kTilePanels, Ops::kTileTokens>(w, panel, x, 0, y);
  }
  for (; panel < w.panels(); ++panel) Tokens<Ops, Panel, 1, Ops::kTileTokens>(w, panel, x, 0, y);
}

template <class Ops>
inline void MatMulPanels(const PackedView& w, const QuantizedActivations& x, MatrixView<float> y) {
  switch (w.type) {
    case ElementType::kQ8_0:
      return Panels<Ops, Q8_0Panel<Ops>>(w, x, y);
    case ElementType::kQ4_0:
      return Panels<Ops, Q4_0Panel<Ops>>(w, x, y);
    case ElementType::kQ4_1:
      return Panels<Ops, Q4_1Panel<Ops>>(w, x, y);
    default:
      return Panels<Ops, Q4_KPanel<Ops>>(w, x, y);
  }
}

template <class Ops>
inline void MatMulInt16Panels(const PackedView& w, const Int16Activations& x, MatrixView<float> y) {
  Panels<Ops, Int16Panel<Ops>>(w, x, y);
}

}  // namespace THERMOCLINE_TILES
}  // namespace thermocline
