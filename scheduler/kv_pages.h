// KvPages: keys and values of one layer, in pages of a fixed number of positions that sequences hold by
// number.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "core/buffer.h"
#include "core/matrix.h"
#include "core/status.h"
#include "model/config.h"

namespace thermocline {

// The number of a page: the same page of every layer belongs to the same positions of a sequence.
using KvPage = int32_t;
inline constexpr int64_t kKvPageTokens = 16;

// Pages that hold n_tokens positions.
constexpr int64_t PagesFor(int64_t n_tokens) { return (n_tokens + kKvPageTokens - 1) / kKvPageTokens; }

// F32, (pages, 2, n_kv_heads, kKvPageTokens, d_head): keys, then values of a page, so that a head's positions
// within a page are one sequential read.
class KvPages {
 public:
  // ResourceExhausted, naming the size of all layers' pages, when the memory is not to be had.
  static absl::StatusOr<KvPages> Create(const ModelConfig& config, int64_t n_pages);
  static int64_t SizeBytes(const ModelConfig& config, int64_t n_pages);  // of one layer

  const float* data() const { return reinterpret_cast<const float*>(storage_.data()); }
  int64_t head_stride() const { return kKvPageTokens * d_head_; }       // elements
  int64_t value_offset() const { return n_kv_heads_ * head_stride(); }  // from a page's keys to its values
  int64_t page_stride() const { return 2 * value_offset(); }            // elements

  // Copies the keys and values of consecutive tokens, (n_tokens, n_kv_heads * d_head) each, to first_position
  // and up of the sequence that holds `pages`.
  void Store(std::span<const KvPage> pages, int64_t first_position, MatrixView<const float> keys,
             MatrixView<const float> values);

 private:
  AlignedBuffer storage_;
  int64_t n_pages_ = 0;
  int64_t n_kv_heads_ = 0;
  int64_t d_head_ = 0;
};

}  // namespace thermocline
