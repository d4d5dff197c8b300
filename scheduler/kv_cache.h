// KvCache: keys and values of one sequence in one layer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/buffer.h"
#include "core/matrix.h"
#include "core/status.h"
#include "model/config.h"

namespace thermocline {

// F32. Two arrays (n_kv_heads, capacity, d_head), so that a head's positions are one sequential read.
class KvCache {
 public:
  // ResourceExhausted, naming the size of all layers' caches, when the memory is not to be had.
  static absl::StatusOr<KvCache> Create(const ModelConfig& config, int64_t capacity_tokens);
  static int64_t SizeBytes(const ModelConfig& config, int64_t capacity_tokens);  // of one layer

  int64_t capacity_tokens() const { return capacity_tokens_; }
  int64_t head_stride() const { return capacity_tokens_ * d_head_; }  // elements between KV heads

  float* keys() { return reinterpret_cast<float*>(storage_.data()); }
  float* values() { return keys() + n_kv_heads_ * head_stride(); }

  // Copies the keys and values of consecutive tokens, (n_tokens, n_kv_heads * d_head) each, to first_position
  // and up.
  void Store(int64_t first_position, MatrixView<const float> keys, MatrixView<const float> values);

 private:
  AlignedBuffer storage_;
  int64_t capacity_tokens_ = 0;
  int64_t n_kv_heads_ = 0;
  int64_t d_head_ = 0;
};

}  // namespace thermocline
