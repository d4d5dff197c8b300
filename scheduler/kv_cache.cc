// KvCache.
// SPDX-License-Identifier: Apache-2.0
#include "scheduler/kv_cache.h"

#include <algorithm>

namespace thermocline {

int64_t KvCache::SizeBytes(const ModelConfig& config, int64_t capacity_tokens) {
  return 2 * config.n_kv_heads * config.d_head * capacity_tokens * static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<KvCache> KvCache::Create(const ModelConfig& config, int64_t capacity_tokens) {
  KvCache cache;
  cache.capacity_tokens_ = capacity_tokens;
  cache.n_kv_heads_ = config.n_kv_heads;
  cache.d_head_ = config.d_head;
  const int64_t size_bytes = SizeBytes(config, capacity_tokens);
  auto storage = AlignedBuffer::Create(size_bytes);
  if (!storage.ok()) {
    return ResourceExhausted(
        "the KV cache of {} tokens needs {} bytes, which are not to be had; a smaller --context helps",
        capacity_tokens, config.n_layers * size_bytes);
  }
  cache.storage_ = *std::move(storage);
  return cache;
}

void KvCache::Store(int64_t first_position, MatrixView<const float> keys, MatrixView<const float> values) {
  TC_CHECK(first_position >= 0 && first_position + keys.rows <= capacity_tokens_);
  for (int64_t head = 0; head < n_kv_heads_; ++head) {
    float* key_head = this->keys() + head * head_stride() + first_position * d_head_;
    float* value_head = this->values() + head * head_stride() + first_position * d_head_;
    for (int64_t t = 0; t < keys.rows; ++t) {
      std::copy_n(keys.row_data(t) + head * d_head_, d_head_, key_head + t * d_head_);
      std::copy_n(values.row_data(t) + head * d_head_, d_head_, value_head + t * d_head_);
    }
  }
}

}  // namespace thermocline
