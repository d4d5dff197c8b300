// KvLayout: how keys and values of one layer lie in pages, for who writes them and for the attention kernels.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/element_type.h"

namespace thermocline {

inline constexpr int64_t kKvPageTokens = 16;
// Values of a head that share a scale in Q8_0.
inline constexpr int64_t kKvScaleColumns = 32;
// Kernels read whole vectors: so many bytes behind the last page are readable.
inline constexpr int64_t kKvSlackBytes = 64;

// 32 columns of a head's 16 positions in Q8_0: element = scale of its position * its byte.
struct KvBlock {
  uint16_t scales[kKvPageTokens];                 // binary16, one a position
  int8_t bytes[kKvPageTokens * kKvScaleColumns];  // keys: (32, 16), values: (16, 32)
};
static_assert(sizeof(KvBlock) == 544);

// A page holds the keys of every KV head, then the values of every KV head. In F32 and F16 a head's keys are
// (d_head, 16), so that a vector is one column of consecutive positions and no score needs a sum over lanes;
// its values are (16, d_head). In Q8_0 both are d_head / 32 KvBlocks.
struct KvLayout {
  ElementType type = ElementType::kF16;  // kF32, kF16 or kQ8_0, with d_head a multiple of 32
  int64_t n_kv_heads = 0;
  int64_t d_head = 0;

  // Of a head's keys in a page; its values take as many.
  int64_t head_bytes() const {
    switch (type) {
      case ElementType::kF32:
        return kKvPageTokens * d_head * 4;
      case ElementType::kQ8_0:
        return d_head / kKvScaleColumns * static_cast<int64_t>(sizeof(KvBlock));
      default:
        return kKvPageTokens * d_head * 2;
    }
  }
  int64_t value_offset() const { return n_kv_heads * head_bytes(); }  // from a page's keys to its values
  int64_t page_bytes() const { return 2 * value_offset(); }
};

}  // namespace thermocline
